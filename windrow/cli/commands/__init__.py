"""One module for each command or family of commands; imported only when its command is called."""
