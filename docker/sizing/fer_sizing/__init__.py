"""How many servers a load needs, and what the chart's autoscaling makes of a day: `python -m fer_sizing --help`."""
