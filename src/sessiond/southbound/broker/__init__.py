"""The Kafka broker that holds the data of streams: it is asked where each partition goes on, and nothing is written."""
