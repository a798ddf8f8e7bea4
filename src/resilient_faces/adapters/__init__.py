"""Adapters: one module a service. Each imports its extra on first use, with an error that names what to install."""
