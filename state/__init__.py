"""What survives a reboot: the memory of the supervisor and the requests of people."""
