import MigrationEngine
import QMP

// QMP's block commands, NBD's client and its server.

extension SimulatedQEMU {
  func blockCommand(
    _ request: QMPRequest, _ arguments: inout CommandArguments, client: Int?
  ) throws(QMPCommandError) -> JSONValue? {
    switch request.name {
    case "query-block-jobs", "query-jobs", "query-block-exports", "query-named-block-nodes",
      "query-block", "query-yank":
      return try blockQuery(request.name, &arguments)
    case "nbd-server-start": try startServer(&arguments)
    case "nbd-server-stop":
      try arguments.finish()
      try stopServer()
    case "block-export-add": try addExport(&arguments)
    case "block-export-del": try deleteExport(&arguments)
    case "blockdev-add":
      try addNode(request, &arguments, client)
      return nil
    case "blockdev-del": try deleteNode(&arguments)
    case "blockdev-mirror": try mirrorToNode(&arguments)
    case "drive-mirror":
      try mirrorToAddress(request, &arguments, client)
      return nil
    case "block-job-cancel": try cancelBlockJob(&arguments)
    case "block-job-set-speed":
      let position = try blockJob(arguments.string("device"))
      blocks.jobs[position].speed = try arguments.integer("speed")
      try arguments.finish()
    case "job-cancel":
      let position = try job(arguments.string("id"), orElse: .generic("Job not found"))
      try arguments.finish()
      cancelJob(position, isForced: true)
    case "job-dismiss": try dismissJob(&arguments)
    case "block-job-change" where configuration.release == .qemu100: try changeJob(&arguments)
    case "yank": try yank(&arguments)
    default: throw .notFound(request.name)
    }
    return [:]
  }

  // MARK: - Queries

  private func blockQuery(
    _ name: String, _ arguments: inout CommandArguments
  ) throws(QMPCommandError) -> JSONValue {
    if name == "query-named-block-nodes" { _ = try arguments.optionalBool("flat") }
    try arguments.finish()
    switch name {
    case "query-block-jobs": return .array(blocks.jobs.map { .object(blockJobReport($0)) })
    case "query-jobs": return .array(blocks.jobs.map { .object(jobReport($0)) })
    case "query-block-exports":
      return .array(
        blocks.exports.map {
          [
            "node-name": .string($0.node), "shutting-down": false, "type": "nbd",
            "id": .string($0.id),
          ]
        })
    case "query-named-block-nodes": return .array(blocks.nodes.map { .object(nodeReport($0)) })
    case "query-block":
      return .array(
        blocks.nodes.filter { $0.disk != nil }.map {
          [
            "io-status": "ok", "device": "", "locked": false, "removable": false,
            "inserted": .object(nodeReport($0)), "type": "unknown",
          ]
        })
    default: return .array(yankInstances)
    }
  }

  private func blockJobReport(_ job: MirrorJob) -> JSONObject {
    var report: JSONObject = [
      "auto-finalize": true, "io-status": "ok", "device": .string(job.id),
      "auto-dismiss": .bool(job.dismissesItself), "busy": .bool(job.isCopying || job.isFlushing),
      "len": .integer(jobLength(job)), "offset": .integer(jobOffset(job)),
      "status": .string(job.status.rawValue), "paused": .bool(job.isFlushing),
      "speed": .integer(job.speed), "ready": .bool(job.status == .ready), "type": "mirror",
    ]
    if configuration.release == .qemu100 {
      report["actively-synced"] = .bool(
        job.isWriteBlocking && job.isInSync && !job.hasFailed
          && (job.status == .ready || job.status == .concluded))
    }
    if job.status == .concluded, let error = job.error { report["error"] = .string(error) }
    return report
  }

  private func jobReport(_ job: MirrorJob) -> JSONObject {
    var report: JSONObject = [
      "current-progress": .integer(jobOffset(job)), "status": .string(job.status.rawValue),
      "total-progress": .integer(jobLength(job)), "type": "mirror", "id": .string(job.id),
    ]
    if job.status == .concluded, let error = job.error { report["error"] = .string(error) }
    return report
  }

  private func nodeReport(_ node: BlockLayer.Node) -> JSONObject {
    [
      "node-name": .string(node.name), "ro": false, "drv": node.disk == nil ? "nbd" : "raw",
      "image": [
        "virtual-size": .integer(Int64(node.sectors) * Int64(BlockLayer.sectorBytes)),
        "filename": .string(node.name), "format": node.disk == nil ? "nbd" : "raw",
      ],
    ]
  }

  private var yankInstances: [JSONValue] {
    var instances: [JSONValue] = configuration.incoming == .none ? [] : [["type": "migration"]]
    if outgoing.isUnderway { instances.append(["type": "migration"]) }
    for node in blocks.nodes where node.connection != nil {
      instances.append(["node-name": .string(node.name), "type": "block-node"])
    }
    return instances
  }

  // MARK: - The NBD server

  private func startServer(
    _ arguments: inout CommandArguments
  ) throws(QMPCommandError) {
    guard let address = try arguments.optionalObject("addr") else {
      throw CommandArguments.missing("addr")
    }
    try arguments.finish()
    guard blocks.serverPath == nil else { throw .generic("NBD server already running") }
    blocks.serverPath = address["data"]?["path"]?.string ?? ""
  }

  /// Every export of the server goes, and every client with it.
  private func stopServer() throws(QMPCommandError) {
    guard blocks.serverPath != nil else { throw .generic("NBD server not running") }
    blocks.serverPath = nil
    for export in blocks.exports { removeExport(export) }
  }

  private func removeExport(_ export: BlockLayer.Export) {
    for client in blocks.served where client.export == export.name {
      effects.append(.network(.close(connection: client.connection)))
    }
    blocks.served.removeAll { $0.export == export.name }
    blocks.exports.removeAll { $0.id == export.id }
    emit("BLOCK_EXPORT_DELETED", ["id": .string(export.id)])
  }

  private func addExport(_ arguments: inout CommandArguments) throws(QMPCommandError) {
    _ = try arguments.string("type")
    let id = try arguments.string("id")
    let node = try arguments.string("node-name")
    let isWritable = try arguments.optionalBool("writable") ?? false
    let name = try arguments.optionalString("name") ?? node
    try arguments.finish()
    guard !blocks.exports.contains(where: { $0.id == id }) else {
      throw .generic("Block export id '\(id)' is already in use")
    }
    guard blocks.nodes.contains(where: { $0.name == node }) else {
      throw .generic("Cannot find device='' nor node-name='\(node)'")
    }
    guard blocks.serverPath != nil else { throw .generic("NBD server not running") }
    guard !blocks.exports.contains(where: { $0.name == name }) else {
      throw .generic("NBD server already has export named '\(name)'")
    }
    blocks.exports.append(
      BlockLayer.Export(id: id, name: name, node: node, isWritable: isWritable))
  }

  private func deleteExport(
    _ arguments: inout CommandArguments
  ) throws(QMPCommandError) {
    let id = try arguments.string("id")
    let mode = try arguments.optionalString("mode") ?? "safe"
    try arguments.finish()
    guard let export = blocks.exports.first(where: { $0.id == id }) else {
      throw .generic("Export '\(id)' is not found")
    }
    if mode == "safe", blocks.served.contains(where: { $0.export == export.name }) {
      throw .generic("export '\(id)' still in use")
    }
    removeExport(export)
  }

  // MARK: - Nodes

  private func addNode(
    _ request: QMPRequest, _ arguments: inout CommandArguments, _ client: Int?
  ) throws(QMPCommandError) {
    let driver = try arguments.string("driver")
    let name = try arguments.string("node-name")
    let server = try arguments.optionalObject("server")
    let export = try arguments.optionalString("export") ?? ""
    try arguments.finish()
    guard driver == "nbd", let path = server?["path"]?.string else {
      throw .generic("Unknown driver '\(driver)'")
    }
    guard !blocks.nodes.contains(where: { $0.name == name }) else {
      throw .generic("Duplicate nodes with node-name='\(name)'")
    }
    open(name, path, export, request, client, job: nil)
  }

  private func open(
    _ name: String, _ path: String, _ export: String, _ request: QMPRequest, _ client: Int?,
    job: MirrorJob?
  ) {
    blocks.lastConnection += 1
    let connection = blocks.lastConnection
    blocks.opening = BlockLayer.Opening(
      connection: connection,
      node: BlockLayer.Node(
        name: name, disk: nil, connection: connection, isOpen: true, belongsToJob: job != nil,
        sectors: blocks.nodes.first { $0.disk != nil }?.sectors ?? 0),
      client: client, request: request, job: job)
    // QMP takes no further command before this one is done.
    isDispatching = true
    effects.append(.network(.connect(connection: connection, path: path, export: export)))
  }

  private func opened(_ connection: Int, failure: String?) {
    guard let opening = blocks.opening, opening.connection == connection else { return }
    blocks.opening = nil
    isDispatching = false
    let request = opening.request
    effects.append(
      .carriedOut(
        request.name, request.arguments, client: opening.client, refused: failure != nil))
    if let failure {
      refuse(opening.client, request.id, .generic(failure))
      return
    }
    blocks.nodes.append(opening.node)
    if let job = opening.job { start(job) }
    reply(to: opening.client, request.id, [:])
  }

  private func deleteNode(_ arguments: inout CommandArguments) throws(QMPCommandError) {
    let name = try arguments.string("node-name")
    try arguments.finish()
    guard let index = blocks.nodes.firstIndex(where: { $0.name == name }) else {
      throw .generic("Failed to find node with node-name='\(name)'")
    }
    if let disk = blocks.nodes[index].disk {
      throw blocks.jobs.contains { $0.disk == disk && !$0.status.isOver }
        ? .generic("Node '\(name)' is busy: block device is in use by block job: mirror")
        : .generic("Node \(name) is in use")
    }
    if blocks.jobs.contains(where: { $0.target == name && !$0.status.isOver }) {
      throw .generic("Node \(name) is in use")
    }
    let node = blocks.nodes.remove(at: index)
    if let connection = node.connection, node.isOpen {
      effects.append(.network(.close(connection: connection)))
    }
  }

  // MARK: - Mirrors

  private func mirrorToNode(
    _ arguments: inout CommandArguments
  ) throws(QMPCommandError) {
    let id = try arguments.optionalString("job-id")
    let device = try arguments.string("device")
    let target = try arguments.string("target")
    let job = try newJob(&arguments, id: id ?? device, device: device, target: target)
    guard blocks.nodes.contains(where: { $0.name == target }) else {
      throw .generic("Cannot find device='' nor node-name='\(target)'")
    }
    start(job)
  }

  private func mirrorToAddress(
    _ request: QMPRequest, _ arguments: inout CommandArguments, _ client: Int?
  ) throws(QMPCommandError) {
    let id = try arguments.optionalString("job-id")
    let device = try arguments.string("device")
    let address = try arguments.string("target")
    _ = try arguments.optionalString("format")
    _ = try arguments.optionalString("mode")
    let node = try arguments.optionalString("node-name") ?? "#block\(blocks.lastConnection + 1)"
    let job = try newJob(&arguments, id: id ?? device, device: device, target: node)
    let parts = address.split(separator: ":")
    guard parts.count == 4, parts[0] == "nbd", parts[1] == "unix",
      parts[3].hasPrefix("exportname=")
    else { throw .generic("Unknown protocol") }
    open(
      node, String(parts[2]), String(parts[3].dropFirst("exportname=".count)), request, client,
      job: job)
  }

  private func newJob(
    _ arguments: inout CommandArguments, id: String, device: String, target: String
  ) throws(QMPCommandError) -> MirrorJob {
    _ = try arguments.string("sync")
    let mode = try arguments.optionalString("copy-mode") ?? "background"
    let dismissesItself = try arguments.optionalBool("auto-dismiss") ?? true
    let speed = try arguments.optionalInteger("speed") ?? 0
    try arguments.finish()
    guard let node = blocks.nodes.first(where: { $0.name == device }), let disk = node.disk else {
      throw .generic("Cannot find device='\(device)' nor node-name='\(device)'")
    }
    guard !blocks.jobs.contains(where: { $0.disk == disk && !$0.status.isOver }) else {
      throw .generic("Need a root block node")
    }
    guard !blocks.jobs.contains(where: { $0.id == id }) else {
      throw .generic("Job ID '\(id)' already in use")
    }
    blocks.lastJob += 1
    return MirrorJob(
      number: blocks.lastJob, id: id, disk: disk, target: target,
      isWriteBlocking: mode == "write-blocking", dismissesItself: dismissesItself,
      dirty: [Bool](repeating: true, count: node.sectors), speed: speed)
  }

  private func job(
    _ id: String, orElse error: QMPCommandError
  ) throws(QMPCommandError) -> Int {
    guard let position = blocks.jobs.firstIndex(where: { $0.id == id }) else { throw error }
    return position
  }

  private func blockJob(_ id: String) throws(QMPCommandError) -> Int {
    try job(
      id,
      orElse: QMPCommandError(errorClass: "DeviceNotActive", text: "Block job '\(id)' not found"))
  }

  private func cancelBlockJob(
    _ arguments: inout CommandArguments
  ) throws(QMPCommandError) {
    let id = try arguments.string("device")
    let isForced = try arguments.optionalBool("force") ?? false
    try arguments.finish()
    let position = try blockJob(id)
    guard blocks.jobs[position].isLive else { throw verb("cancel", position) }
    cancelJob(position, isForced: isForced)
  }

  private func dismissJob(
    _ arguments: inout CommandArguments
  ) throws(QMPCommandError) {
    let position = try job(arguments.string("id"), orElse: .generic("Job not found"))
    try arguments.finish()
    guard blocks.jobs[position].status == .concluded else { throw verb("dismiss", position) }
    setJobStatus(position, .null)
    blocks.jobs.remove(at: position)
  }

  private func verb(_ verb: String, _ position: Int) -> QMPCommandError {
    let job = blocks.jobs[position]
    return .generic(
      "Job '\(job.id)' in state '\(job.status.rawValue)' cannot accept command verb '\(verb)'")
  }

  private func changeJob(_ arguments: inout CommandArguments) throws(QMPCommandError) {
    let id = try arguments.string("id")
    _ = try arguments.string("type")
    let mode = try arguments.string("copy-mode")
    try arguments.finish()
    let position = try blockJob(id)
    guard mode == "write-blocking" else {
      throw .generic("Change to copy mode '\(mode)' is not implemented")
    }
    blocks.jobs[position].isWriteBlocking = true
  }

  // MARK: - Yank

  private func yank(_ arguments: inout CommandArguments) throws(QMPCommandError) {
    let instances = try arguments.array("instances")
    try arguments.finish()
    var connections: [Int] = []
    for instance in instances {
      let node = blocks.nodes.first {
        $0.connection != nil && $0.name == instance["node-name"]?.string
      }
      guard instance["type"]?.string == "block-node", let connection = node?.connection else {
        throw QMPCommandError(errorClass: "DeviceNotFound", text: "Instance not found")
      }
      connections.append(connection)
    }
    for connection in connections {
      effects.append(.network(.close(connection: connection)))
      connectionEnded(connection)
    }
  }

  // MARK: - The network

  func network(_ input: BlockInput) {
    switch input {
    case .connected(let connection): opened(connection, failure: nil)
    case .refused(let connection, let text): opened(connection, failure: text)
    case .replied(_, let request, let succeeded): requestEnded(request, succeeded: succeeded)
    case .ended(let connection):
      blocks.served.removeAll { $0.connection == connection }
      opened(
        connection, failure: "Failed to read data: Unexpected end-of-file before all data were read"
      )
      connectionEnded(connection)
    case .clientConnected(let connection, let export):
      guard blocks.exports.contains(where: { $0.name == export }) else {
        effects.append(
          .network(.refuse(connection: connection, "Requested export not available")))
        return
      }
      blocks.served.append((connection, export))
      effects.append(.network(.accept(connection: connection)))
    case .requested(let connection, let request, let body):
      serve(connection, request, body)
    }
  }

  private func serve(_ connection: Int, _ request: Int, _ body: NBDRequest) {
    guard let client = blocks.served.first(where: { $0.connection == connection }),
      let export = blocks.exports.first(where: { $0.name == client.export }),
      let node = blocks.nodes.first(where: { $0.name == export.node }), let disk = node.disk
    else { return }
    if case .write(let sector, let number) = body {
      if isRunning { blocks.outsideWritesWhileRunning += 1 }
      storage.write(number, to: sector, of: configuration.disks[disk].disk)
    }
    effects.append(.network(.reply(connection: connection, request: request, succeeded: true)))
  }

  /// Whether somebody outside can write to a disk of this QEMU; for observers.
  public var hasOutsideWriter: Bool { blocks.exports.contains(where: \.isWritable) }
  public var outsideWritesWhileRunning: Int { blocks.outsideWritesWhileRunning }
  /// Where its NBD server listens.
  public var serverPath: String? { isAlive ? blocks.serverPath : nil }
}
