"""Where images come from: each source gives the same stream of files, whatever it is behind."""
