"""The page of the service: type a text or a pair, see the answer and the words it rests on."""
