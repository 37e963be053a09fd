import MigrationEngine

/// One thing that happened, for the host program.
public struct LoopEvent {
  public enum Content {
    case phaseChanged(MigrationPhase)
    /// The numbers changed; the newest are the member's.
    case progressed
    case handOverWanted
    case warning(String)
    case log(String)
    case finished
    case clientReady
    case replied(QMPReply)
    /// QEMU's event, its data as JSON text, its timestamp in microseconds since 1970.
    case happened(name: String, json: [UInt8], timestampMicroseconds: Int64?)
    case clientClosed(ClientEnd)
  }

  /// The migration or client concerned.
  public let member: LoopMember
  public let content: Content
  /// What its text counts for against the member's limit.
  let byteCount: Int

  /// Which events give way first when nobody takes them; nil: none of this kind ever does.
  fileprivate var rank: Int? {
    switch content {
    case .log: 0
    // Level-triggered: the newest is the member's own.
    case .phaseChanged: 1
    case .warning: 2
    case .progressed, .handOverWanted, .finished: nil
    // A client that floods is closed instead.
    case .clientReady, .replied, .happened, .clientClosed: nil
    }
  }

  fileprivate static let ranks = 0...2
}

/// The events of a loop in the order in which they happened.
struct EventQueue {
  /// Events of one migration that may wait. Beyond it the older half of its log lines, then phases,
  /// then warnings is dropped; progress is kept once, and the rest always.
  static let memberLimit = 512

  private var entries: [LoopEvent?] = []
  private var head = 0
  private(set) var count = 0

  var isEmpty: Bool { count == 0 }

  mutating func append(_ event: LoopEvent) {
    let member = event.member
    if case .progressed = event.content {
      if member.progressIsQueued { return }
      member.progressIsQueued = true
    }
    if event.rank != nil, member.queuedEvents >= Self.memberLimit { makeRoom(for: member) }
    entries.append(event)
    count += 1
    member.queuedEvents += 1
    member.queuedEventBytes += event.byteCount
  }

  mutating func removeFirst() -> LoopEvent? {
    while head < entries.count {
      let entry = entries[head]
      entries[head] = nil
      head += 1
      if head > 64, head > entries.count / 2 {
        entries.removeFirst(head)
        head = 0
      }
      if let entry {
        forget(entry)
        return entry
      }
    }
    entries.removeAll(keepingCapacity: entries.capacity <= 1024)
    head = 0
    return nil
  }

  mutating func removeAll(of member: LoopMember) {
    guard member.queuedEvents > 0 else { return }
    for index in head..<entries.count {
      if let entry = entries[index], entry.member === member { drop(entry, at: index) }
    }
  }

  private mutating func makeRoom(for member: LoopMember) {
    var rest = Self.memberLimit / 2
    for rank in LoopEvent.ranks where rest > 0 {
      for index in head..<entries.count where rest > 0 {
        if let entry = entries[index], entry.member === member, entry.rank == rank {
          drop(entry, at: index)
          rest -= 1
        }
      }
      if rest < Self.memberLimit / 2 { return }
    }
  }

  private mutating func drop(_ entry: LoopEvent, at index: Int) {
    entries[index] = nil
    forget(entry)
  }

  private mutating func forget(_ entry: LoopEvent) {
    count -= 1
    entry.member.queuedEvents -= 1
    entry.member.queuedEventBytes -= entry.byteCount
    if case .progressed = entry.content { entry.member.progressIsQueued = false }
  }
}
