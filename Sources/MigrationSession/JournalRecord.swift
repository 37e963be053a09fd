import MigrationEngine
import QMP

/// What one migration leaves on disk: its intent before it changes anything, its outcome after its end.
///
/// The text is one header line, `switchover-journal VERSION CRC32 LENGTH`, and one JSON object. A record
/// that is cut short, altered, foreign or of a newer version is told apart from a good one, and from each
/// other.
public struct JournalRecord: Hashable, Sendable {
  /// One QEMU of the migration.
  public struct QEMU: Hashable, Sendable {
    /// Its monitor's address, as the C interface takes it.
    public var monitor: String
    public var outOfBandMonitor: String?
    /// Its process on this machine, where the kernel named one.
    public var process: PeerProcess?
    /// What it had before we changed it.
    public var capabilities: [CapabilitySetting]
    public var parameters: [ParameterSetting]

    public init(
      monitor: String, outOfBandMonitor: String? = nil, process: PeerProcess? = nil,
      capabilities: [CapabilitySetting] = [], parameters: [ParameterSetting] = []
    ) {
      self.monitor = monitor
      self.outOfBandMonitor = outOfBandMonitor
      self.process = process
      self.capabilities = capabilities
      self.parameters = parameters
    }
  }

  /// A mirror on the source.
  public struct Mirror: Hashable, Sendable {
    public var device: String
    public var jobID: String
    public var node: String?
    public var isOurs: Bool

    public init(device: String, jobID: String, node: String?, isOurs: Bool) {
      self.device = device
      self.jobID = jobID
      self.node = node
      self.isOurs = isOurs
    }
  }

  /// How it ended.
  public struct Outcome: Hashable, Sendable {
    public var end: MigrationEnd
    public var owner: Owner
    public var guest: GuestCondition
    public var text: String
    public var nextStep: String

    public init(
      end: MigrationEnd, owner: Owner, guest: GuestCondition, text: String, nextStep: String
    ) {
      self.end = end
      self.owner = owner
      self.guest = guest
      self.text = text
      self.nextStep = nextStep
    }
  }

  public static let version = 1
  /// Largest record that is written or read.
  public static let maximumBytes = 256 * 1024

  public var name: String
  public var source: QEMU
  public var target: QEMU
  public var handOver: HandOverMode
  public var sourceEnd: SourceEnd
  /// The source's run state before the migration, in QEMU's word.
  public var runState: String
  public var mirrors: [Mirror]
  /// Where the processes are at home: their numbers mean nothing elsewhere, or after another boot.
  public var machine: String?
  /// nil as long as the migration has not ended.
  public var outcome: Outcome?

  public init(
    name: String, source: QEMU, target: QEMU, handOver: HandOverMode, sourceEnd: SourceEnd,
    runState: String, mirrors: [Mirror] = [], machine: String? = nil, outcome: Outcome? = nil
  ) {
    self.name = name
    self.source = source
    self.target = target
    self.handOver = handOver
    self.sourceEnd = sourceEnd
    self.runState = runState
    self.mirrors = mirrors
    self.machine = machine
    self.outcome = outcome
  }

  /// Whether nothing is left to recover.
  public var isSettled: Bool {
    guard let outcome else { return false }
    return outcome.owner == .source || outcome.owner == .target
  }
}

/// Why a journal's bytes are no record.
public enum JournalRecordError: Error, Hashable, Sendable {
  case empty
  case foreign
  case newer(version: Int)
  /// Cut short or altered.
  case damaged
}

extension JournalRecord {
  init(
    configuration: SessionConfiguration, facts: IntentFacts, sourceProcess: PeerProcess?,
    targetProcess: PeerProcess?, conclusion: Conclusion?
  ) {
    let options = configuration.options
    name = options.name
    source = QEMU(
      monitor: configuration.sourceMonitor.description,
      outOfBandMonitor: configuration.sourceOutOfBand?.description, process: sourceProcess,
      capabilities: facts.source.capabilities, parameters: facts.source.parameters)
    target = QEMU(
      monitor: configuration.targetMonitor.description, outOfBandMonitor: nil,
      process: targetProcess, capabilities: facts.target.capabilities,
      parameters: facts.target.parameters)
    handOver = options.handOver
    sourceEnd = options.sourceEnd
    machine = configuration.machine
    runState = facts.runState?.qemuName ?? ""
    mirrors = options.storage.disks.enumerated().map { index, disk in
      switch disk.mirror {
      case .started:
        Mirror(
          device: disk.device, jobID: MirrorNames.job(index), node: MirrorNames.node(index),
          isOurs: true)
      case .takenOver(let job, _, let node):
        Mirror(device: disk.device, jobID: job, node: node, isOurs: false)
      }
    }
    outcome = conclusion.map {
      Outcome(
        end: $0.end, owner: $0.owner, guest: $0.guest, text: $0.failure?.text ?? "",
        nextStep: $0.nextStep)
    }
  }

  /// The bytes for the journal.
  public var encoded: [UInt8] {
    let body = JSONText.encode(json)
    let header =
      "switchover-journal \(Self.version) \(String(CRC32.of(body), radix: 16)) \(body.count)\n"
    return Array(header.utf8) + body + [0x0A]
  }

  /// Reads the bytes of a journal.
  public static func decode(_ bytes: [UInt8]) throws(JournalRecordError) -> JournalRecord {
    guard !bytes.isEmpty else { throw .empty }
    let magic = Array("switchover-journal ".utf8)
    guard bytes.starts(with: magic) else {
      // A beginning of the header is a torn write, anything else another program's file.
      throw magic.starts(with: bytes) ? .damaged : .foreign
    }
    guard let lineEnd = bytes.firstIndex(of: 0x0A) else { throw .damaged }
    let words = bytes[magic.count..<lineEnd].split(separator: 0x20).map {
      String(decoding: $0, as: UTF8.self)
    }
    guard let version = words.first.flatMap({ Int($0) }) else { throw .damaged }
    guard version <= Self.version else { throw .newer(version: version) }
    guard words.count == 3, let checksum = UInt32(words[1], radix: 16), let count = Int(words[2]),
      count >= 0, count <= maximumBytes, bytes.count - lineEnd - 1 >= count
    else { throw .damaged }
    let body = Array(bytes[(lineEnd + 1)...].prefix(count))
    guard CRC32.of(body) == checksum,
      let value = try? body.withUnsafeBytes({ try JSONText.decode($0, limits: .standard) }),
      let record = JournalRecord(value)
    else { throw .damaged }
    return record
  }
}

// MARK: - JSON

extension JournalRecord {
  private var json: JSONValue {
    var body: JSONObject = [
      "name": .string(name), "source": source.json, "target": target.json,
      "hand-over": .string(handOver.journalName),
      "source-end": .string(sourceEnd == .quit ? "quit" : "keep"), "run-state": .string(runState),
      "mirrors": .array(mirrors.map(\.json)),
    ]
    if let machine { body["machine"] = .string(machine) }
    if let outcome { body["outcome"] = outcome.json }
    return .object(body)
  }

  private init?(_ value: JSONValue) {
    guard let name = value["name"]?.string, let source = value["source"].flatMap(QEMU.init),
      let target = value["target"].flatMap(QEMU.init),
      let handOver = HandOverMode.allCases.first(where: {
        $0.journalName == value["hand-over"]?.string
      }),
      let runState = value["run-state"]?.string, let mirrors = value["mirrors"]?.array
    else { return nil }
    self.name = name
    self.source = source
    self.target = target
    self.handOver = handOver
    sourceEnd = value["source-end"]?.string == "quit" ? .quit : .keep
    self.runState = runState
    self.mirrors = mirrors.compactMap(Mirror.init)
    machine = value["machine"]?.string
    if let outcome = value["outcome"] {
      guard let outcome = Outcome(outcome) else { return nil }
      self.outcome = outcome
    }
  }
}

extension JournalRecord.QEMU {
  fileprivate var json: JSONValue {
    var object: JSONObject = [
      "monitor": .string(monitor),
      "capabilities": .array(
        capabilities.map { .object(["name": .string($0.name), "on": .bool($0.on)]) }),
      "parameters": .array(
        parameters.map { .object(["name": .string($0.name), "value": $0.value.json]) }),
    ]
    if let outOfBandMonitor { object["oob-monitor"] = .string(outOfBandMonitor) }
    if let process {
      object["pid"] = .integer(Int64(process.pid))
      object["start-time"] = JSONValue(process.startTime)
    }
    return .object(object)
  }

  fileprivate init?(_ value: JSONValue) {
    guard let monitor = value["monitor"]?.string else { return nil }
    self.monitor = monitor
    outOfBandMonitor = value["oob-monitor"]?.string
    if let pid = value["pid"]?.int64, let pid = Int32(exactly: pid),
      let start = value["start-time"]?.uint64
    {
      process = PeerProcess(pid: pid, startTime: start)
    }
    capabilities = (value["capabilities"]?.array ?? []).compactMap { entry in
      guard let name = entry["name"]?.string, let on = entry["on"]?.bool else { return nil }
      return CapabilitySetting(name: name, on: on)
    }
    parameters = (value["parameters"]?.array ?? []).compactMap { entry in
      guard let name = entry["name"]?.string,
        let value = entry["value"].flatMap(ParameterValue.init)
      else { return nil }
      return ParameterSetting(name: name, value: value)
    }
  }
}

extension JournalRecord.Mirror {
  fileprivate var json: JSONValue {
    var object: JSONObject = [
      "device": .string(device), "job": .string(jobID), "ours": .bool(isOurs),
    ]
    if let node { object["node"] = .string(node) }
    return .object(object)
  }

  fileprivate init?(_ value: JSONValue) {
    guard let device = value["device"]?.string, let job = value["job"]?.string else { return nil }
    self.device = device
    jobID = job
    node = value["node"]?.string
    isOurs = value["ours"]?.bool ?? false
  }
}

extension JournalRecord.Outcome {
  fileprivate var json: JSONValue {
    [
      "end": .string("\(end)"), "owner": .string("\(owner)"), "guest": .string("\(guest)"),
      "text": .string(text), "next-step": .string(nextStep),
    ]
  }

  fileprivate init?(_ value: JSONValue) {
    guard let end = MigrationEnd.allCases.first(where: { "\($0)" == value["end"]?.string }),
      let owner = Owner.allCases.first(where: { "\($0)" == value["owner"]?.string }),
      let guest = GuestCondition.allCases.first(where: { "\($0)" == value["guest"]?.string })
    else { return nil }
    self.end = end
    self.owner = owner
    self.guest = guest
    text = value["text"]?.string ?? ""
    nextStep = value["next-step"]?.string ?? ""
  }
}

extension HandOverMode {
  fileprivate var journalName: String {
    switch self {
    case .beforeResume: "before-resume"
    case .afterResume: "after-resume"
    case .none: "none"
    case .external: "external"
    }
  }
}

/// CRC-32 as of IEEE 802.3: finds a torn or altered record, and is no defence against malice.
enum CRC32 {
  static func of(_ bytes: [UInt8]) -> UInt32 {
    var remainder: UInt32 = .max
    for byte in bytes {
      remainder ^= UInt32(byte)
      for _ in 0..<8 {
        remainder = (remainder >> 1) ^ (remainder & 1 == 1 ? 0xEDB8_8320 : 0)
      }
    }
    return ~remainder
  }
}
