"""The report as one self-contained page of HTML: nothing is fetched, and nothing that data says becomes markup."""
