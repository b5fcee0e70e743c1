/// The tree of what has been answered, beside the newest link in the certified data (order.md O42 to O45): a hash tree of
/// the Internet Computer, `{"answers": {id: answer record}, "link": link}`.
///
/// Ids are kept in a binary trie by their bits: its forks are the tree's forks, its leaves the labels of one level in
/// ascending order. Adding or removing one makes new digests on its path and nowhere else.
import Array "mo:core/Array";
import Blob "mo:core/Blob";
import List "mo:core/List";
import Nat8 "mo:core/Nat8";
import Nat64 "mo:core/Nat64";
import Cbor "Cbor";
import Sha256 "Sha256";

module {
  type Leaf = { id : Nat64; value : Blob; digest : Blob };
  /// `bit` is the highest bit in which ids below it differ; `id` is one of those below.
  type Fork = { bit : Nat64; id : Nat64; left : Node; right : Node; digest : Blob };
  public type Node = { #leaf : Leaf; #fork : Fork };
  public type Tree = ?Node;

  let emptyDomain : Blob = "\11ic-hashtree-empty";
  let leafDomain : Blob = "\10ic-hashtree-leaf";
  let labeledDomain : Blob = "\13ic-hashtree-labeled";
  let forkDomain : Blob = "\10ic-hashtree-fork";

  func labeled(text : Blob, digest : Blob) : Blob = Sha256.digest([labeledDomain, text, digest]);
  func forked(left : Blob, right : Blob) : Blob = Sha256.digest([forkDomain, left, right]);

  /// Eight bytes, the most significant first, so that labels ascend as ids do.
  public func idLabel(id : Nat64) : Blob = Blob.fromArray(
    Array.tabulate<Nat8>(8, func(i) = Nat8.fromNat(Nat64.toNat((id >> Nat64.fromNat(8 * (7 - i : Nat))) & 0xff)))
  );

  func digestOf(node : Node) : Blob = switch node { case (#leaf l) l.digest; case (#fork f) f.digest };
  func idIn(node : Node) : Nat64 = switch node { case (#leaf l) l.id; case (#fork f) f.id };

  func leaf(id : Nat64, value : Blob) : Node = #leaf {
    id;
    value;
    digest = labeled(idLabel id, Sha256.digest([leafDomain, value]));
  };

  func fork(bit : Nat64, left : Node, right : Node) : Node = #fork {
    bit;
    id = idIn left;
    left;
    right;
    digest = forked(digestOf left, digestOf right);
  };

  func highestBit(n : Nat64) : Nat64 = 63 - Nat64.bitcountLeadingZero n;
  func isSet(id : Nat64, bit : Nat64) : Bool = (id >> bit) & 1 == 1;

  /// Whether `id` agrees with everything below this fork in the bits above its own.
  func covers(f : Fork, id : Nat64) : Bool = f.bit == 63 or (f.id ^ id) >> (f.bit + 1) == 0;

  func joined(node : Node, added : Node) : Node {
    let bit = highestBit(idIn node ^ idIn added);
    if (isSet(idIn added, bit)) fork(bit, node, added) else fork(bit, added, node)
  };

  func putIn(node : Node, added : Node) : Node = switch node {
    case (#leaf l) if (l.id == idIn added) added else joined(node, added);
    case (#fork f) {
      if (not covers(f, idIn added)) return joined(node, added);
      if (isSet(idIn added, f.bit)) fork(f.bit, f.left, putIn(f.right, added)) else fork(f.bit, putIn(f.left, added), f.right)
    };
  };

  public func put(tree : Tree, id : Nat64, value : Blob) : Tree {
    let added = leaf(id, value);
    switch tree { case (?node) ?putIn(node, added); case null ?added }
  };

  public func remove(tree : Tree, id : Nat64) : Tree = switch tree {
    case null null;
    case (?(#leaf l)) if (l.id == id) null else tree;
    case (?(#fork f)) {
      let (changed, kept) = if (isSet(id, f.bit)) (f.right, f.left) else (f.left, f.right);
      switch (remove(?changed, id)) {
        case null ?kept;
        case (?rest) ?(if (isSet(id, f.bit)) fork(f.bit, kept, rest) else fork(f.bit, rest, kept));
      }
    };
  };

  // ---- the whole tree: answers, then the link

  let answersLabel : Blob = "answers";
  let linkLabel : Blob = "link";

  func answersDigest(tree : Tree) : Blob = switch tree {
    case (?node) digestOf node;
    case null Sha256.digest([emptyDomain]);
  };

  /// What `certified_data` is (O42).
  public func root(tree : Tree, link : Blob) : Blob = forked(
    labeled(answersLabel, answersDigest tree),
    labeled(linkLabel, Sha256.digest([leafDomain, link])),
  );

  func pruned(digest : Blob) : Cbor.Value = #array([#uint 4, #bytes digest]);
  func shown(name : Blob, below : Cbor.Value) : Cbor.Value = #array([#uint 2, #bytes name, below]);
  func pair(left : Cbor.Value, right : Cbor.Value) : Cbor.Value = #array([#uint 1, left, right]);
  func value(bytes : Blob) : Cbor.Value = #array([#uint 3, #bytes bytes]);

  /// The tree with the link shown and nothing else.
  public func linkWitness(tree : Tree, link : Blob) : Blob = Cbor.encode(
    pair(pruned(labeled(answersLabel, answersDigest tree)), shown(linkLabel, value link))
  );

  func lowest(node : Node) : Nat64 = switch node { case (#leaf l) l.id; case (#fork f) lowest(f.left) };
  func highest(node : Node) : Nat64 = switch node { case (#leaf l) l.id; case (#fork f) highest(f.right) };

  func has(node : Node, id : Nat64) : Bool = switch node {
    case (#leaf l) l.id == id;
    case (#fork f) has(if (isSet(id, f.bit)) f.right else f.left, id);
  };

  /// The nearest ids on either side of one that is not there.
  func below(node : Node, id : Nat64) : ?Nat64 = switch node {
    case (#leaf l) if (l.id < id) ?l.id else null;
    case (#fork f) below(if (lowest(f.right) < id) f.right else f.left, id);
  };

  func above(node : Node, id : Nat64) : ?Nat64 = switch node {
    case (#leaf l) if (l.id > id) ?l.id else null;
    case (#fork f) above(if (highest(f.left) > id) f.left else f.right, id);
  };

  func wantedFor(node : Node, id : Nat64) : [Nat64] {
    if (has(node, id)) return [id];
    let wanted = List.empty<Nat64>();
    for (found in [below(node, id), above(node, id)].vals()) {
      switch found { case (?neighbour) List.add(wanted, neighbour); case null {} };
    };
    List.toArray wanted
  };

  func reveal(node : Node, wanted : [Nat64], id : Nat64) : Cbor.Value = switch node {
    case (#leaf l) {
      if (l.id == id) return shown(idLabel id, value(l.value));
      if (Array.any<Nat64>(wanted, func(each) = each == l.id)) {
        return shown(idLabel(l.id), pruned(Sha256.digest([leafDomain, l.value])));
      };
      pruned(l.digest)
    };
    case (#fork f) {
      if (Array.any<Nat64>(wanted, func(each) = covers(f, each))) {
        return pair(reveal(f.left, wanted, id), reveal(f.right, wanted, id));
      };
      pruned(f.digest)
    };
  };

  /// The tree with the record of `id` shown, or, where there is none, the labels on either side of its place.
  public func witness(tree : Tree, link : Blob, id : Nat64) : Blob {
    let inside : Cbor.Value = switch tree {
      case (?node) reveal(node, wantedFor(node, id), id);
      case null #array([#uint 0]);
    };
    Cbor.encode(pair(shown(answersLabel, inside), shown(linkLabel, value link)))
  };
};
