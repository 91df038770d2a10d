"""How many servers a load needs: the chart's own thresholds, simulated with the measured capacity of one server."""
