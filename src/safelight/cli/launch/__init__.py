"""Starting a server, whichever command is to: in the background or not, with its log and its pid file."""
