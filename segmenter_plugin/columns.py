"""Column names, each written once."""

from __future__ import annotations


class Columns:
    """Names of the columns in our own tables (not the owner's: those stand in the configuration)."""

    user_id = "user_id"
    item_id = "item_id"
    event_type = "event_type"
    event_timestamp = "event_timestamp"
    event_id = "event_id"
    order_id = "order_id"
    session_id = "session_id"
    category = "category"
    brand = "brand"
    price = "price"
    quantity = "quantity"
    text = "text"
    #: Money of one event in the owner's currency, >= 0: price x quantity, or the line's price.
    amount = "amount"

    created_timestamp = "created_timestamp"
    model_version = "model_version"
    trained_through = "trained_through"

    sequence_length = "sequence_length"
    embedding = "embedding"
    #: A user's scores as one number in [0, 1].
    value_score = "value_score"
    segment_id = "segment_id"
    segment_name = "segment_name"
    #: How clearly a user belongs to its segment, in [0, 1].
    segment_stability = "segment_stability"

    quarantine_reason = "quarantine_reason"
    raw_row = "raw_row"

    @staticmethod
    def sequence(column: str) -> str:
        """Name of the list column that holds one event column's values, oldest first."""
        return f"{column}_sequence"


#: Reserved names of event types: money comes in with the one and goes out with the other.
PURCHASE = "purchase"
RETURN = "return"
