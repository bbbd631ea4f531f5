"""Layer 3: groups of users that a person can name; numpy, scikit-learn, pyarrow."""
