"""The formats in which a bundle has the network: a file dropped in here is one.

It registers beside its definition and has the methods of `distill.export.exporter.Exporter`::

    @exporter("ncnn")
    class NcnnExporter(Exporter): ...
"""
