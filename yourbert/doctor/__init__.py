"""`yourbert doctor`: what a kill, a full disk or a manual edit left behind in a project, and its repair."""
