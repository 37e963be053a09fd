import MigrationEngine
import MigrationSession
import QMP
import Testing

/// Two QEMUs that speak real QMP, as far as a script goes, and the driver between them and a session.
struct ScriptedPair<Session: DrivenSession> {
  /// One QEMU: what it answers, and what it was told.
  struct QEMU {
    var isThere = true
    /// Major and minor number.
    var version = (7, 2)
    /// Another client holds its monitor: it takes connections and says nothing.
    var isSilent = false
    /// Who answers, as the kernel names it.
    var process: PeerProcess?
    var runState = "running"
    var status: String?
    /// The reply's `return`, or `error`, for a command that is not answered in the usual way; nil: no
    /// answer ever.
    var answers: [String: String?] = [:]
    /// What a command changes, once it is carried out.
    var reactions: [String: (inout ScriptedPair<Session>) -> Void] = [:]
    /// Commands in the order of their arrival, without the negotiation.
    var commands: [String] = []
    /// The last arguments of each.
    var arguments: [String: JSONValue] = [:]
    var jobs: [String: String] = [:]
  }

  var session: Session
  var source = QEMU()
  var target = QEMU()
  var now = MonotonicInstant(nanoseconds: 1_000_000_000)
  var reports: [SessionReport] = []
  var persisted: [[UInt8]] = []
  /// Bytes that reach the session at once.
  var pieceSize = Int.max
  private var open: Set<StreamID> = []
  private var inputs: [SessionInput] = []
  private var bytes: [(stream: StreamID, bytes: [UInt8])] = []
  /// They took `quit`, and end once their words are read.
  private var ending: Set<Side> = []
  var isFinished = false

  init(_ session: Session) { self.session = session }

  subscript(side: Side) -> QEMU {
    get { side == .source ? source : target }
    set { if side == .source { source = newValue } else { target = newValue } }
  }

  /// Starts the session and lets everything happen, with time passing where nothing else does.
  mutating func run(untilSeconds limit: Int64 = 1_000) {
    feed(.requested(.start))
    while !isFinished {
      if !inputs.isEmpty {
        feed(inputs.removeFirst())
      } else if !bytes.isEmpty {
        let next = bytes.removeFirst()
        deliver(next.bytes, on: next.stream)
      } else if let side = ending.popFirst() {
        die(side)
      } else if let deadline = session.nextDeadline, deadline < .init(seconds: limit) {
        now = max(now, deadline)
        feed(.timePassed)
      } else {
        Issue.record("nothing more happens; \(source.commands) \(target.commands)")
        return
      }
    }
  }

  /// The process ends, and its monitor with it.
  mutating func die(_ side: Side) {
    self[side].isThere = false
    for stream in StreamID.allCases where stream.side == side && open.remove(stream) != nil {
      inputs.append(.streamEnded(stream, withProcess: self[side].process != nil))
      if self[side].process != nil { inputs.append(.processExited(stream)) }
    }
  }

  /// The connection ends; whoever listens goes on.
  mutating func cut(_ stream: StreamID) {
    guard open.remove(stream) != nil else { return }
    bytes.removeAll { $0.stream == stream }
    inputs.append(.streamEnded(stream, withProcess: false))
  }

  mutating func say(_ side: Side, event: String, data: String = "{}") {
    let stream: StreamID = side == .source ? .sourceMonitor : .targetMonitor
    send(
      #"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "\#(event)", "data": \#(data)}"#,
      on: stream)
  }

  // MARK: - Driver

  private mutating func feed(_ input: SessionInput) {
    now = now + .microseconds(10)
    var effects: [SessionEffect] = []
    session.handle(input, at: now, effects: &effects)
    obey(effects)
  }

  private mutating func deliver(_ bytes: [UInt8], on stream: StreamID) {
    var rest = bytes[...]
    while !rest.isEmpty, open.contains(stream) {
      let piece = Array(rest.prefix(pieceSize))
      rest = rest.dropFirst(pieceSize)
      now = now + .microseconds(10)
      var effects: [SessionEffect] = []
      piece.withUnsafeBytes { session.received($0, on: stream, at: now, effects: &effects) }
      obey(effects)
    }
  }

  private mutating func obey(_ effects: [SessionEffect]) {
    for effect in effects {
      #expect(!isFinished, "\(effect) after the end")
      switch effect {
      case .open(let stream, _): opens(stream)
      case .close(let stream):
        open.remove(stream)
        bytes.removeAll { $0.stream == stream }
      case .write(let stream, let bytes): took(bytes, on: stream)
      case .persist(let bytes): persisted.append(bytes)
      case .countWaiting(let stream, _): inputs.append(.clientsCounted(stream, 0))
      case .report(.finished): isFinished = true
      case .report(let report): reports.append(report)
      }
    }
  }

  private mutating func opens(_ stream: StreamID) {
    guard self[stream.side].isThere else {
      inputs.append(.streamUnavailable(stream, .refused))
      return
    }
    open.insert(stream)
    inputs.append(.streamOpened(stream, peer: self[stream.side].process))
    if self[stream.side].isSilent { return }
    let (major, minor) = self[stream.side].version
    send(
      #"{"QMP": {"version": {"qemu": {"micro": 22, "minor": \#(minor), "major": \#(major)}, "#
        + #""package": ""}, "capabilities": ["oob"]}}"#, on: stream)
  }

  private mutating func send(_ line: String, on stream: StreamID) {
    guard open.contains(stream) else { return }
    bytes.append((stream, Array((line + "\r\n").utf8)))
  }

  // MARK: - QEMU

  private mutating func took(_ written: [UInt8], on stream: StreamID) {
    for line in written.split(separator: UInt8(ascii: "\n")) {
      guard open.contains(stream),
        let message = Array(line).withUnsafeBytes({ try? JSONText.decode($0) }),
        let name = (message["execute"] ?? message["exec-oob"])?.string, let id = message["id"]
      else {
        if open.contains(stream) { Issue.record("no command: \(line)") }
        continue
      }
      let idText = String(decoding: JSONText.encode(id), as: UTF8.self)
      if name == "qmp_capabilities" {
        send(#"{"return": {}, "id": \#(idText)}"#, on: stream)
        continue
      }
      self[stream.side].commands.append(name)
      self[stream.side].arguments[name] = message["arguments"] ?? .null
      let reaction = self[stream.side].reactions[name]
      reaction?(&self)
      if let answer = answer(name, stream.side) {
        let word = answer.hasPrefix(#"{"class""#) ? "error" : "return"
        send(#"{"\#(word)": \#(answer), "id": \#(idText)}"#, on: stream)
      }
      if name == "quit", self[stream.side].isThere, self[stream.side].answers["quit"] == nil {
        ending.insert(stream.side)
      }
    }
  }

  private func answer(_ name: String, _ side: Side) -> String? {
    let qemu = self[side]
    if let answer = qemu.answers[name] { return answer }
    switch name {
    case "query-status": return #"{"status": "\#(qemu.runState)", "running": false}"#
    case "query-migrate": return qemu.status.map { #"{"status": "\#($0)"}"# } ?? "{}"
    case "query-block-jobs":
      let jobs = qemu.jobs.sorted { $0.key < $1.key }.map { id, status in
        #"{"device": "\#(id)", "type": "mirror", "len": 8, "offset": 8, "#
          + #""ready": \#(status != "running"), "status": "\#(status)"}"#
      }
      return "[\(jobs.joined(separator: ", "))]"
    default: return "{}"
    }
  }
}

extension MonotonicInstant {
  init(seconds: Int64) { self.init(nanoseconds: seconds * 1_000_000_000) }
}

/// QEMU's error object.
func refusal(_ text: String, errorClass: String = "GenericError") -> String {
  #"{"class": "\#(errorClass)", "desc": "\#(text)"}"#
}
