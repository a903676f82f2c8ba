"""A model folder handed over: answers for whole files, an HTTP server (`serve/`), other libraries (`export/`)."""
