import Platform

/// Something that waits for a descriptor to become ready.
class Watcher {
  /// Its place in the loop's table while it is watched.
  var token: UInt64?
  /// Whether it can wait until everybody else had their turn.
  var isBulk: Bool { false }

  func becameReady(_ flags: ReadyFlags) {}
}

/// The watched ones, by the token that the kernel gives back.
///
/// A token holds the place and its generation: an entry that was reported before its watcher went
/// away never reaches the place's next tenant.
struct WatcherTable {
  private struct Place {
    var watcher: Watcher?
    var generation: UInt32
  }

  private var places: [Place] = []
  private var free: [Int] = []

  mutating func insert(_ watcher: Watcher) -> UInt64 {
    let index: Int
    if let reused = free.popLast() {
      index = reused
      places[index].watcher = watcher
    } else {
      index = places.count
      places.append(Place(watcher: watcher, generation: 0))
    }
    return UInt64(places[index].generation) << 32 | UInt64(index)
  }

  mutating func remove(_ token: UInt64) {
    guard self[token] != nil else { return }
    let index = Int(token & 0xFFFF_FFFF)
    places[index].watcher = nil
    places[index].generation = places[index].generation &+ 1 & 0x7FFF_FFFF
    free.append(index)
  }

  subscript(token: UInt64) -> Watcher? {
    let index = Int(token & 0xFFFF_FFFF)
    guard index < places.count, UInt64(places[index].generation) == token >> 32 else { return nil }
    return places[index].watcher
  }
}

/// Waits for a process to end.
final class ExitWatch: Watcher {
  /// Which of its member's streams the process is the peer of.
  let key: Int
  /// The process; it keeps the descriptor open.
  let peer: SocketPeer
  private weak var member: LoopMember?
  private weak var loop: Loop?

  /// Nil when the process offers nothing to watch.
  init?(_ peer: SocketPeer, key: Int, member: LoopMember, loop: Loop) {
    guard let descriptor = peer.exitDescriptor else { return nil }
    self.key = key
    self.peer = peer
    self.member = member
    self.loop = loop
    super.init()
    guard (try? loop.watch(self, descriptor, .readable)) != nil else { return nil }
  }

  override func becameReady(_ flags: ReadyFlags) {
    // The descriptor stays readable for ever: once is enough.
    stop()
    member?.processExited(self)
  }

  func stop() {
    guard let descriptor = peer.exitDescriptor else { return }
    loop?.unwatch(self, descriptor)
  }
}
