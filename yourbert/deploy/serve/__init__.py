"""A model as a service: HTTP with JSON, texts in and answers out, made to hold under load and hostile input.

limits          what a request may be, and what becomes of one that is not
request_schema  the bodies of requests, read strictly
queue           rows of waiting requests -> batches, one at a time
model           the folder that is served
app             the paths
run             the process: sockets, signals, the slow
"""
