"""What ranking models ask for."""

from views import declared

# A service fixes the list of features that one kind of model reads, in training and online alike.
# A ranker that names the service gets the same columns in get_historical_features and get_online_features.
ranking = declared.service

# The same and the affinity, for rankers that hold item vectors of the same space.
# A service of its own, because each row asked of it must bring an item_vector.
ranking_items = declared.item_service
