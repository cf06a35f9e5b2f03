"""The node daemon: takes chunks, feeds them to worker processes, and reports outcomes, leases and load."""
