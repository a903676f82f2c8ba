"""Using a model folder: predictions for files, an HTTP server (`serve/`), export to other libraries (`export/`)."""
