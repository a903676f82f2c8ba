"""The demo page of the service: type a text or a pair, see the prediction and the words it rests on."""
