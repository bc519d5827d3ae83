"""The rows of the benchmark as data: who takes part in which table, and which ratios are asked for."""

from __future__ import annotations

from dataclasses import dataclass

from peers.contest import Contestant


@dataclass(frozen=True)
class Group:
    """One table.

    Attributes:
        key: Short name.
        title: Its heading.
        unit: What a time is counted in.
        unit_seconds: That unit in seconds.
        note: What the reader must know.
    """

    key: str
    title: str
    unit: str
    unit_seconds: float
    note: str


@dataclass(frozen=True)
class Goal:
    """A ratio: how many times less CPU time one contestant takes than another, per crystal.

    Attributes:
        what: The words of the table.
        slow: Key of the one that should take longer.
        fast: Key of the other.
        least: Figure to reach; None where none is set.
    """

    what: str
    slow: str
    fast: str
    least: float | None = None


GROUPS = (
    Group("graphs", "Graphs", "us", 1e-6, "From structures in memory to arrays of edges with their vectors, and angle "
          "cosines where the row has angles (a line graph holds each angle twice)."),
    Group("radius", "Neighbours within 5 A", "us", 1e-6, "The bare search."),
    Group("collate", "Collation", "us", 1e-6, "Batches of 32 in random order."),
    Group("train", "Training step", "ms", 1e-3, "Forward, L1 loss on the formation energy, backward, AdamW; batches of "
          "32 are prepared outside the clock. Crystrata trains on distinct atoms, one for its symmetric copies, with "
          "equal loss and gradient; rows with all atoms compute on the very edges of the peers. Sizes are unequal, "
          "and so is accuracy. What default settings cost depends on the processor: some compute denormal numbers "
          "many times slower than normal ones, others just as fast."),
    Group("predict", "From CIF files to predictions", "ms", 1e-3, "One process, files on disk, weights untrained."),
)  # fmt: skip

_STD = {"encoder": "e3nn", "settings": {"channels": 64, "layers": 3}, "batch": 32, "distinct": True}
_PLAIN = {"encoder": "plain_e3nn", "settings": {"channels": 64, "layers": 3, "l_max": 2}, "batch": 32}
_CGCNN = {"encoder": "cgcnn", "settings": {"channels": 64, "layers": 3}, "batch": 32, "distinct": True}
_TEXTBOOK = {"channels": 64, "layers": 3, "batch": 32}

CONTESTANTS = (
    Contestant("graphs", "graphs", "Crystrata, smooth neighbourhoods and angles", "ours", "graphs"),
    Contestant("graphs-jarvis", "graphs", "jarvis-tools, 12 nearest with whole shells and line graph", "jarvis_peer",
               "graphs"),
    Contestant("graphs-cgcnn", "graphs", "CGCNN original (pymatgen), 12 nearest, no angles", "cgcnn_original",
               "graphs"),
    Contestant("graphs-alignn", "graphs", "ALIGNN's fast builder as it comes: 12 nearest within 5 A, angles within "
               "3.5 A", "alignn_peer", "graphs", {"reach": "default"}),
    Contestant("graphs-alignn-8", "graphs", "the same: 12 nearest within 8 A, whole line graph", "alignn_peer",
               "graphs", {"reach": "paper"}),
    Contestant("radius", "radius", "Crystrata", "ours", "radius", {"cutoff": 5.0}),
    Contestant("radius-pymatgen", "radius", "pymatgen `get_neighbor_list`", "neighbour_lists", "pymatgen",
               {"cutoff": 5.0}),
    Contestant("radius-matscipy", "radius", "matscipy", "neighbour_lists", "matscipy", {"cutoff": 5.0}),
    Contestant("radius-vesin", "radius", "vesin", "neighbour_lists", "vesin", {"cutoff": 5.0}),
    Contestant("collate", "collate", "Crystrata", "ours", "collation", {"angles": False, "batch": 32}),
    Contestant("collate-distinct", "collate", "Crystrata, distinct atoms, as in training", "ours", "collation",
               {"angles": False, "batch": 32, "distinct": True}),
    Contestant("collate-pyg", "collate", "torch_geometric", "pyg_peer", "collation", {"angles": False, "batch": 32}),
    Contestant("collate-angles", "collate", "Crystrata, with angles", "ours", "collation",
               {"angles": True, "batch": 32}),
    Contestant("collate-angles-pyg", "collate", "torch_geometric, with angles", "pyg_peer", "collation",
               {"angles": True, "batch": 32}),
    Contestant("e3nn", "train", "Crystrata e3nn std, C 64, l 2, 3 layers", "ours", "training", _STD),
    Contestant("e3nn-compiled", "train", "the same, torch.compile", "ours", "training", {**_STD, "compiled": True}),
    Contestant("e3nn-all", "train", "the same, all atoms", "ours", "training", {**_STD, "distinct": False}),
    Contestant("e3nn-all-compiled", "train", "the same, all atoms, torch.compile", "ours", "training",
               {**_STD, "distinct": False, "compiled": True}),
    Contestant("plain", "train", "plain e3nn `uvu`, C 64, l 2, 3 layers (reference trunk)", "ours", "training", _PLAIN),
    Contestant("plain-compiled", "train", "the same, torch.compile", "ours", "training", {**_PLAIN, "compiled": True}),
    Contestant("alignn", "train", "ALIGNN 4 + 4, 256, 12 nearest, whole line graph", "alignn_peer", "training",
               {"reach": "paper", "batch": 32}),
    Contestant("alignn-default", "train", "the same, angles within 3.5 A as it comes", "alignn_peer", "training",
               {"reach": "default", "batch": 32}),
    Contestant("mace-64", "train", "MACE 64x0e, l 2", "mace_peer", "training",
               {"channels": 64, "l_max": 2, "batch": 32}),
    Contestant("mace-128", "train", "MACE 128x0e, l 3", "mace_peer", "training",
               {"channels": 128, "l_max": 3, "batch": 32}),
    Contestant("nequip-s", "train", "NequIP preset S", "nequip_peer", "training", {"preset": "S", "batch": 32}),
    Contestant("nequip-m", "train", "NequIP preset M", "nequip_peer", "training", {"preset": "M", "batch": 32}),
    Contestant("tensornet", "train", "matgl TensorNet, C 64", "matgl_peer", "training", {"units": 64, "batch": 32}),
    Contestant("cgcnn", "train", "Crystrata CGCNN, 3 x 64", "ours", "training", _CGCNN),
    Contestant("cgcnn-all", "train", "the same, all atoms", "ours", "training", {**_CGCNN, "distinct": False}),
    Contestant("cgcnn-textbook", "train", "CGCNN textbook, 3 x 64, default settings", "cgcnn_original", "training",
               {**_TEXTBOOK, "defaults": True}, plain=True),
    Contestant("cgcnn-textbook-tuned", "train", "the same, settings of the other rows", "cgcnn_original", "training",
               {**_TEXTBOOK, "defaults": False}),
    Contestant("cgcnn-textbook-21", "train", "CGCNN textbook, default settings, 21 neighbours", "cgcnn_original",
               "training", {**_TEXTBOOK, "defaults": True, "neighbours": 21}, plain=True),
    Contestant("predict", "predict", "Crystrata e3nn std, through its prediction table", "ours", "predictions",
               {"folder": "cifs"}),
    Contestant("predict-matgl", "predict", "matgl TensorNet C 64, `predict_structure`", "matgl_peer", "predictions",
               {"folder": "cifs"}),
    Contestant("predict-alignn", "predict", "ALIGNN 4 + 4, 256: jarvis reader, graph, network", "alignn_peer",
               "predictions", {"folder": "cifs"}),
)  # fmt: skip

GOALS = (
    Goal("graphs with angles, against jarvis-tools with line graph", "graphs-jarvis", "graphs", 100),
    Goal("graphs with angles, against CGCNN's pymatgen path", "graphs-cgcnn", "graphs", 100),
    Goal("graphs with angles, against ALIGNN's fast builder as it comes", "graphs-alignn", "graphs"),
    Goal("neighbours within 5 A, against pymatgen", "radius-pymatgen", "radius", 5),
    Goal("collation, against PyG", "collate-pyg", "collate", 10),
    Goal("collation with angles, against PyG", "collate-angles-pyg", "collate-angles"),
    Goal("E3NN training step, against ALIGNN", "alignn", "e3nn", 25),
    Goal("the same, all atoms", "alignn", "e3nn-all", 25),
    Goal("E3NN, against plain eager e3nn `uvu`", "plain", "e3nn", 3),
    Goal("the same, all atoms", "plain", "e3nn-all", 3),
    Goal("E3NN compiled, against plain eager e3nn `uvu`", "plain", "e3nn-compiled", 5),
    Goal("the same, all atoms", "plain", "e3nn-all-compiled", 5),
    Goal("E3NN, against MACE 64x0e, l 2", "mace-64", "e3nn", 2),
    Goal("the same, all atoms", "mace-64", "e3nn-all", 2),
    Goal("E3NN, against NequIP preset S", "nequip-s", "e3nn"),
    Goal("E3NN, against matgl TensorNet", "tensornet", "e3nn"),
    Goal("CGCNN, against the textbook CGCNN in default settings", "cgcnn-textbook-21", "cgcnn", 3),
    Goal("the same, all atoms", "cgcnn-textbook-21", "cgcnn-all"),
    Goal("the same, all atoms; the textbook with its 12 neighbours", "cgcnn-textbook", "cgcnn-all"),
    Goal(
        "the same, all atoms; the textbook with 12 neighbours and equal settings", "cgcnn-textbook-tuned", "cgcnn-all"
    ),
    Goal("from CIF files to predictions, against matgl", "predict-matgl", "predict"),
    Goal("from CIF files to predictions, against ALIGNN", "predict-alignn", "predict"),
)
