"""Long campaigns: hostile inputs, listed faults, other people's configurations, real database servers."""
