"""Where the image core runs: in a pool of jailed processes, in threads, or on a remote server."""
