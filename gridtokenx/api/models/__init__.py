"""The shapes of answers, for the OpenAPI description. Handlers answer from the same queries as rpc; tests hold both
together. Fields named `…_thb`, `…_kwh`, `…_thb_kwh` are decimal text beside the exact integer of the same name.
"""
