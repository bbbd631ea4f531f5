"""Layer 3: how good the scores are, beside what a team would do without the encoder; numpy, scikit-learn, LightGBM."""
