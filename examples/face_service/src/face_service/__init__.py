"""A recognition service on resilient-faces: cameras, enrolled people, signed webhooks, a demonstration of it all."""
