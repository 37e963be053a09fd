@testable import QMP

/// Drives one session with arbitrary bytes and checks what must hold for any of them.
///
/// The seeded test and the libFuzzer harness share it. What the owner does in between (commands,
/// deadlines, taking the output) is drawn from a seed and tied to positions in the input, which
/// serve as the clock: so the same input must give the same notices however it is cut.
struct SessionDriver {
  enum Cut: Equatable {
    case whole, bytes
    case pieces(seed: UInt64)
  }

  struct Complaint: Error {
    var text: String
  }

  struct Outcome: Equatable {
    var notices: [QMPNotice]
    var output: [UInt8]
    var state: QMPSession.State
    var counters: [UInt64]
    var pieces = 0

    static func == (left: Self, right: Self) -> Bool {
      left.notices == right.notices && left.output == right.output && left.state == right.state
        && left.counters == right.counters
    }
  }

  /// Limits that a short input can reach.
  static let tight = QMPLimits(
    maximumLineBytes: 300, maximumDepth: 6, maximumValues: 40, maximumPendingCommands: 5,
    maximumAbandoned: 2, maximumOutputBytes: 200)

  private var session: QMPSession
  private var notices: [QMPNotice] = []
  private var output: [UInt8] = []
  private var deadlines: [UInt64: Int64?] = [:]
  private var settled = 0
  private var isReady = false
  private var hasFailed = false
  private var pieces = 0

  private init(limits: QMPLimits, wantsOutOfBand: Bool) {
    session = QMPSession(limits: limits, wantsOutOfBand: wantsOutOfBand)
  }

  /// Feeds `input` in every cut and compares; gives the number of pieces fed.
  static func check(_ input: [UInt8], seed: UInt64) throws(Complaint) -> Int {
    let reference = try run(input, seed: seed, cut: .whole)
    let pieces = try run(input, seed: seed, cut: .pieces(seed: seed ^ 0x9E37))
    guard pieces == reference else { throw Complaint(text: "pieces differ from the whole") }
    // One byte after the other is slow; a part of the inputs is enough.
    guard input.count < 2000, seed % 4 == 0 else { return reference.pieces + pieces.pieces }
    let bytes = try run(input, seed: seed, cut: .bytes)
    guard bytes == reference else { throw Complaint(text: "single bytes differ from the whole") }
    return reference.pieces + pieces.pieces + bytes.pieces
  }

  /// Whether a text that is read and written again still says the same.
  static func checkText(_ input: [UInt8]) throws(Complaint) {
    let read: JSONValue? = input.withUnsafeBytes { try? JSONText.decode($0) }
    guard let read else { return }
    let again: JSONValue? = JSONText.encode(read).withUnsafeBytes { try? JSONText.decode($0) }
    guard again == read else { throw Complaint(text: "a value changed when written and read") }
  }

  private static func run(
    _ input: [UInt8], seed: UInt64, cut: Cut
  ) throws(Complaint) -> Outcome {
    var random = Random(seed: seed)
    let limits = random.chance(3) ? QMPLimits.standard : tight
    var driver = SessionDriver(limits: limits, wantsOutOfBand: random.chance(2))
    var position = 0
    while position < input.count {
      try driver.act(at: Int64(position), random: &random)
      let end = min(input.count, position + 1 + random.below(90))
      try driver.feed(input[position..<end], cut: cut)
      position = end
    }
    try driver.end(at: Int64(position), random: &random)
    return Outcome(
      notices: driver.notices, output: driver.output, state: driver.session.state,
      counters: [
        driver.session.lateReplies, driver.session.unknownReplies, driver.session.unknownMessages,
      ], pieces: driver.pieces)
  }

  private mutating func feed(_ input: ArraySlice<UInt8>, cut: Cut) throws(Complaint) {
    var random = Random(seed: 0)
    if case .pieces(let seed) = cut { random = Random(seed: seed &+ UInt64(input.startIndex)) }
    var start = input.startIndex
    while start < input.endIndex {
      let size =
        switch cut {
        case .whole: input.count
        case .bytes: 1
        case .pieces: 1 + random.below(20)
        }
      let end = min(input.endIndex, start + size)
      input[start..<end].withUnsafeBytes { session.received($0, notices: &notices) }
      pieces += 1
      start = end
      try checkNotices()
    }
  }

  /// What an owner may do between two pieces.
  private mutating func act(at now: Int64, random: inout Random) throws(Complaint) {
    switch random.below(6) {
    case 0, 1:
      let deadline: Int64? = random.chance(2) ? now + Int64(random.below(400)) : nil
      let id = try? session.execute(
        "query-status", arguments: random.chance(4) ? ["text": "\u{0}é"] : nil,
        outOfBand: random.chance(5), deadlineNanoseconds: deadline)
      if let id {
        guard deadlines[id.rawValue] == nil else { throw Complaint(text: "an id was given twice") }
        deadlines[id.rawValue] = .some(deadline)
      }
    case 2:
      session.deadlineReached(nowNanoseconds: now, notices: &notices)
      try checkNotices()
      if let next = session.nextDeadlineNanoseconds, next <= now {
        throw Complaint(text: "a deadline stayed after its time")
      }
    case 3: output += session.takeOutput()
    default: break
    }
    guard session.isWithinLimits else { throw Complaint(text: "a limit was exceeded") }
  }

  private mutating func end(at now: Int64, random: inout Random) throws(Complaint) {
    output += session.takeOutput()
    if random.chance(2) { session.deadlineReached(nowNanoseconds: now, notices: &notices) }
    session.streamEnded(notices: &notices)
    try checkNotices()
    guard deadlines.isEmpty else { throw Complaint(text: "a command got no end") }
    guard session.nextDeadlineNanoseconds == nil, session.takeOutput().isEmpty else {
      throw Complaint(text: "something is left after the end of the stream")
    }
  }

  private mutating func checkNotices() throws(Complaint) {
    guard session.isWithinLimits else { throw Complaint(text: "a limit was exceeded") }
    while settled < notices.count {
      let notice = notices[settled]
      settled += 1
      switch notice {
      case .ready:
        guard !isReady, !hasFailed else { throw Complaint(text: "ready twice or after failing") }
        isReady = true
      case .reply(let id, _), .commandFailed(let id, _):
        guard isReady, !hasFailed else { throw Complaint(text: "a reply out of place") }
        try settle(id)
      case .timedOut(let id), .lost(let id): try settle(id)
      case .event:
        guard !hasFailed else { throw Complaint(text: "an event after failing") }
      case .protocolViolated(let text):
        guard !hasFailed, session.state == .failed(text) else {
          throw Complaint(text: "failed twice, or without saying so")
        }
        hasFailed = true
      }
    }
    let earliest = deadlines.values.compactMap { $0 }.min()
    guard session.nextDeadlineNanoseconds == earliest else {
      throw Complaint(text: "the next deadline is not the earliest")
    }
  }

  private mutating func settle(_ id: QMPCommandID) throws(Complaint) {
    guard deadlines.removeValue(forKey: id.rawValue) != nil else {
      throw Complaint(text: "a command ended twice, or was never given")
    }
  }
}

/// A small deterministic generator (SplitMix64): the same seed gives the same run everywhere.
struct Random: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }

  /// A number in 0..<bound; 0 if there is none.
  mutating func below(_ bound: Int) -> Int {
    bound > 1 ? Int(next() % UInt64(bound)) : 0
  }

  /// True once in `count` times.
  mutating func chance(_ count: Int) -> Bool { below(count) == 0 }
}
