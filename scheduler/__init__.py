"""The scheduler daemon: a pure core that decides, and a rim that knows the store, the broker, the sockets and HTTP."""
