import ArgumentParser

/// What `migrate` and `check` are told about local disks.
struct DiskArguments: ParsableArguments {
  @Option(
    parsing: .unconditionalSingleValue,
    help: ArgumentHelp(
      "A local disk to mirror, by its node or drive on the source; may be repeated.",
      valueName: "device[=export][,node=node][,bandwidth=rate]"))
  var disk: [MirroredDisk] = []

  @Option(
    parsing: .unconditionalSingleValue,
    help: ArgumentHelp(
      "A local disk whose mirror runs already, as this block job; may be repeated.",
      valueName: "device=job[,write-blocking][,node=node]"))
  var takeOver: [TakenOverMirror] = []

  @Option(
    help: ArgumentHelp(
      "The source's way to the target's NBD server: unix:PATH or tcp:HOST:PORT.",
      valueName: "address"))
  var nbd: String?

  @Option(
    help: ArgumentHelp(
      "Where the target is told to listen for it; none: its server runs already. "
        + "(default: as --nbd)",
      valueName: "address|none"))
  var nbdListen: String?

  @Option(
    help: ArgumentHelp(
      "How long the disks may take to get in sync: 90s, 15m, 2h. (default: no limit)",
      valueName: "time"))
  var syncDeadline: TimeSpan?

  @Option(
    help: ArgumentHelp(
      "What to do then: fail, wait, or throttle: each write of the guest waits until the target has it.",
      valueName: "policy"))
  var syncPolicy = SyncPolicy.fail

  @Option(
    help: ArgumentHelp(
      "How long the guest may stand before stalled NBD connections are broken; needs --source-oob. "
        + "(default: 2s)",
      valueName: "time"))
  var yankAfter: TimeSpan?

  @Option(
    help: ArgumentHelp(
      "How long mirrors may take to end while the guest stands, before it goes on at the source. "
        + "(default: 5s)",
      valueName: "time"))
  var drainLimit: TimeSpan?

  @Flag(
    help: "End the mirrors before the guest's state has left, which costs a round trip.")
  var noFastOrder = false

  func validate() throws {
    if !disk.isEmpty, nbd == nil { throw ValidationError("--disk needs --nbd.") }
    if disk.isEmpty, nbd != nil { throw ValidationError("--nbd needs --disk.") }
    if nbd == nil, nbdListen != nil { throw ValidationError("--nbd-listen needs --nbd.") }
    let devices = disk.map(\.device) + takeOver.map(\.device)
    if Set(devices).count < devices.count {
      throw ValidationError("a disk is named once, by --disk or by --take-over.")
    }
    let needing: [(name: String, isGiven: Bool)] = [
      ("--sync-deadline", syncDeadline != nil), ("--sync-policy", syncPolicy != .fail),
      ("--yank-after", yankAfter != nil),
      ("--drain-limit", drainLimit != nil), ("--no-fast-order", noFastOrder),
    ]
    for option in needing where option.isGiven && devices.isEmpty {
      throw ValidationError("\(option.name) needs --disk or --take-over.")
    }
    if syncPolicy != .fail, syncDeadline == nil {
      throw ValidationError("--sync-policy needs --sync-deadline.")
    }
    let limits = MigrationPlan.Storage.limitMilliseconds
    for (name, limit) in [("--yank-after", yankAfter), ("--drain-limit", drainLimit)] {
      if let limit, !limits.contains(limit.milliseconds) {
        throw ValidationError("\(name) is 50ms to 10m.")
      }
    }
  }

  /// What they say.
  var storage: MigrationPlan.Storage {
    var storage = MigrationPlan.Storage()
    storage.address = nbd
    storage.listenAddress = nbdListen == "none" ? nil : nbdListen ?? nbd
    storage.disks = disk.map { disk in
      var disk = disk
      // A server that is only started now has no export yet.
      if storage.listenAddress != nil, disk.targetNode == nil { disk.targetNode = disk.device }
      return disk
    }
    storage.takenOver = takeOver
    storage.syncDeadlineMilliseconds = syncDeadline?.milliseconds
    storage.syncPolicy = syncPolicy
    if let yankAfter { storage.yankMilliseconds = UInt32(clamping: yankAfter.milliseconds) }
    if let drainLimit { storage.drainMilliseconds = UInt32(clamping: drainLimit.milliseconds) }
    storage.allowsFastOrder = !noFastOrder
    return storage
  }
}

extension MirroredDisk: ExpressibleByArgument {
  /// `DEVICE[=EXPORT][,node=NODE][,bandwidth=RATE]`
  init?(argument: String) {
    var words = OptionWords(argument)
    guard let (device, export) = words.takeFirst() else { return nil }
    self.init(device: device, exportName: export ?? device)
    if let node = words.take("node") { targetNode = node }
    if let rate = words.take("bandwidth") {
      guard let rate = ByteRate(argument: rate) else { return nil }
      bytesPerSecond = rate.bytesPerSecond
    }
    guard words.isEmpty else { return nil }
  }
}

extension TakenOverMirror: ExpressibleByArgument {
  /// `DEVICE=JOB[,write-blocking][,node=NODE]`
  init?(argument: String) {
    var words = OptionWords(argument)
    guard case (let device, let job?)? = words.takeFirst() else { return nil }
    self.init(device: device, jobID: job)
    isWriteBlocking = words.takeFlag("write-blocking")
    node = words.take("node")
    guard words.isEmpty else { return nil }
  }
}

/// Words between commas, as QEMU's own options have them.
private struct OptionWords {
  private var words: [Substring]

  init(_ text: String) {
    words = text.split(separator: ",", omittingEmptySubsequences: false)
  }

  var isEmpty: Bool { words.isEmpty }

  /// `name` or `name=value`, neither empty.
  mutating func takeFirst() -> (name: String, value: String?)? {
    guard !words.isEmpty else { return nil }
    let parts = words.removeFirst().split(
      separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    guard let name = parts.first, !parts.contains("") else { return nil }
    return (String(name), parts.count > 1 ? String(parts[1]) : nil)
  }

  /// The value of `name=value`; a second one stays, and so does one without a value.
  mutating func take(_ name: String) -> String? {
    let prefix = name + "="
    guard
      let index = words.firstIndex(where: { $0.hasPrefix(prefix) && $0.count > prefix.count })
    else { return nil }
    return String(words.remove(at: index).dropFirst(prefix.count))
  }

  mutating func takeFlag(_ name: String) -> Bool {
    guard let index = words.firstIndex(where: { $0 == name }) else { return false }
    words.remove(at: index)
    return true
  }
}
