"""The formats of a bundle's network. To add one, put a file here.

Subclass `distill.export.exporter.Exporter` and register the class::

    @exporter("ncnn")
    class NcnnExporter(Exporter): ...
"""
