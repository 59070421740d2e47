"""Documents are opened here, in child processes that know no Kafka, no model and no credentials."""
