"""Jobs of shell commands: what `windrow run` sends, and the task that runs a command in a worker."""
