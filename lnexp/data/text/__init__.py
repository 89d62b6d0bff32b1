"""Texts: tokens, vocabularies, sentences, books, word vectors."""
