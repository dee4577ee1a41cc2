"""What every service needs and no service is about: settings, logs, database, HTTP server, health, errors.

The "microservice chassis" of https://microservices.io/patterns/microservice-chassis.html. It knows neither the
broker nor the services; each part works without the others.
"""
