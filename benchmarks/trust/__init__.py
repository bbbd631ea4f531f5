"""What trust costs: audits and gates, measured."""
