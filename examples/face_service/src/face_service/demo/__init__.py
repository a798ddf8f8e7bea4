"""The demonstration: cameras, a receiver and the service on one machine, to be broken while one watches."""
