"""What ranking models ask for."""

from views import declared

# A service fixes the list of features that one kind of model reads, in training and online alike.
# A ranker that names the service gets the same columns in get_historical_features and get_online_features.
ranking = declared.service
