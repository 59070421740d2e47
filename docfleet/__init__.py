"""What all services stand on, and the command. Never imports a service."""
