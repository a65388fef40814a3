"""Regard: does attention pay in image classifiers, and what does it cost?"""
