"""The report as one self-contained page of HTML: nothing is loaded from the network, and data is escaped."""
