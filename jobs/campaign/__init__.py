"""From a tier file to a campaign: which stages make each product that a claim reads."""
