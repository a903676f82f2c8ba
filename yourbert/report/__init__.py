"""The `report` stage: results loaded, aggregated and tested, as tables, Markdown and one page that needs no network.

Nothing is computed from a model here; it reads metrics, predictions and tokens that other stages wrote.
"""
