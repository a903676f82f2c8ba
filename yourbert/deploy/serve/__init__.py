"""A model as a service: HTTP with JSON, texts in and predictions out, made for heavy load and hostile input.

limits          the limits of a request, and the error of one that exceeds them
request_schema  the bodies of requests, parsed strictly
openapi         their description, and that of all responses
queue           waiting requests -> batches, one at a time
model           the model folder that is served
app             the endpoints
run             the process: sockets, signals, slow clients
"""
