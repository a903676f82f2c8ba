"""What a kill, a full disk or another hand left behind in a project, and how it is mended: `yourbert doctor`."""
