"""The pipeline behind other frameworks, each written as its own documentation shows.

All run as many worker processes as there are cores, take the encoded image as the body of a POST, and answer JSON.
"""
