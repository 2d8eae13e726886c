"""What stands between reading recordings and learning from them: is this data fit, and for what?"""
