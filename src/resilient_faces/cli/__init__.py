"""The command `resilient-faces`: one module a command, which parses, calls and prints."""
