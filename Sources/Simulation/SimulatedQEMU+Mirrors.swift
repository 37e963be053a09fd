import MigrationEngine
import QMP

// Mirrors of the source's disks to the target's NBD server, and the guest's writes through them.

extension SimulatedQEMU {
  // MARK: - The guest's writes

  func guestWrites() {
    guard isRunning, blocks.isActive, let write = guest.beginWrite(&random) else { return }
    storage.write(write.number, to: write.sector, of: configuration.disks[write.disk].disk)
    var waiting = 0
    for index in blocks.jobs.indices
    where blocks.jobs[index].disk == write.disk && blocks.jobs[index].isLive {
      let job = blocks.jobs[index]
      if job.isWriteBlocking,
        send(
          .write(sector: write.sector, number: write.number), to: job.target,
          for: .guestWrite(job: job.number, write))
      {
        waiting += 1
      } else {
        blocks.jobs[index].dirty[write.sector] = true
        if job.isWriteBlocking { jobFailed(index) } else { copyOn(index) }
      }
    }
    if waiting == 0 {
      guest.acknowledge(write)
    } else {
      blocks.heldWrites.append((write, waiting))
    }
  }

  private func releaseWrite(_ write: SimulatedGuest.Write) {
    guard let index = blocks.heldWrites.firstIndex(where: { $0.write == write }) else { return }
    blocks.heldWrites[index].waitingFor -= 1
    guard blocks.heldWrites[index].waitingFor <= 0 else { return }
    blocks.heldWrites.remove(at: index)
    guest.acknowledge(write)
  }

  // MARK: - Requests

  /// Sends a request to the server behind a node; false when its connection is gone.
  @discardableResult
  func send(
    _ request: NBDRequest, to nodeName: String, for purpose: BlockLayer.Purpose
  ) -> Bool {
    guard let node = blocks.nodes.first(where: { $0.name == nodeName }), node.isOpen,
      let connection = node.connection
    else { return false }
    blocks.lastRequest += 1
    blocks.requests.append(
      BlockLayer.Request(
        number: blocks.lastRequest, connection: connection, purpose: purpose))
    effects.append(
      .network(.request(connection: connection, request: blocks.lastRequest, request)))
    return true
  }

  func requestEnded(_ number: Int, succeeded: Bool) {
    guard let index = blocks.requests.firstIndex(where: { $0.number == number }) else { return }
    let request = blocks.requests.remove(at: index)
    switch request.purpose {
    case .copy(let job, let sector):
      if let position = position(ofJob: job) {
        blocks.jobs[position].isCopying = false
        if succeeded {
          blocks.jobs[position].copied += 1
        } else {
          blocks.jobs[position].dirty[sector] = true
          jobFailed(position)
        }
        copyOn(position)
      }
    case .guestWrite(let job, let write):
      if let position = position(ofJob: job), !succeeded {
        blocks.jobs[position].dirty[write.sector] = true
        jobFailed(position)
      }
      releaseWrite(write)
    case .lastFlush(let job):
      if let position = position(ofJob: job) {
        blocks.jobs[position].isFlushing = false
        if !succeeded { jobFailed(position) }
        endIfDone(position, isFlushed: succeeded)
      }
    case .drain:
      if !succeeded { blocks.drainFailed = true }
    }
    endForcedJobs()
    drainOn()
  }

  /// The connection of a node is gone: what is in flight on it fails.
  func connectionEnded(_ connection: Int) {
    for index in blocks.nodes.indices where blocks.nodes[index].connection == connection {
      blocks.nodes[index].isOpen = false
    }
    for request in blocks.requests where request.connection == connection {
      requestEnded(request.number, succeeded: false)
    }
  }

  func position(ofJob number: Int) -> Int? {
    blocks.jobs.firstIndex { $0.number == number }
  }

  // MARK: - Jobs

  func start(_ job: MirrorJob) {
    blocks.jobs.append(job)
    emitJobStatus(job.id, .created)
    let position = blocks.jobs.count - 1
    setJobStatus(position, .running)
    wake(.job(job.number), after: .microseconds(50))
  }

  func jobStep(_ number: Int) {
    guard let position = position(ofJob: number) else { return }
    copyOn(position)
  }

  /// One sector is copied at a time; without one left the job is ready.
  func copyOn(_ position: Int) {
    let job = blocks.jobs[position]
    // A drained job stands still.
    guard job.isLive, !job.isCopying, !job.hasFailed, !job.endsByForce, !blocks.isDraining else {
      return
    }
    if let sector = job.dirty.firstIndex(of: true) {
      if !blocks.isActive {
        // A mirror with dirty sectors left may not write any more: QEMU asserts.
        exit(status: 134)
        return
      }
      let number = storage.read(sector, of: configuration.disks[job.disk].disk)
      blocks.jobs[position].dirty[sector] = false
      blocks.jobs[position].isCopying = true
      if !send(
        .write(sector: sector, number: number), to: job.target,
        for: .copy(job: job.number, sector: sector))
      {
        blocks.jobs[position].isCopying = false
        blocks.jobs[position].dirty[sector] = true
        jobFailed(position)
      }
      return
    }
    if job.status == .running {
      setJobStatus(position, .ready)
      emit("BLOCK_JOB_READY", jobData(blocks.jobs[position]))
    }
    endIfDone(position, isFlushed: false)
  }

  /// `block-job-cancel` without force on a ready job: it ends in sync.
  func endIfDone(_ position: Int, isFlushed: Bool) {
    let job = blocks.jobs[position]
    guard job.endsSoftly, job.status == .ready, job.isInSync, !job.isFlushing, !job.hasFailed
    else { return }
    if !isFlushed {
      blocks.jobs[position].isFlushing = true
      if !send(.flush, to: job.target, for: .lastFlush(job: job.number)) {
        blocks.jobs[position].isFlushing = false
        jobFailed(position)
      }
      return
    }
    setJobStatus(position, .waiting)
    setJobStatus(position, .pending)
    emit("BLOCK_JOB_COMPLETED", jobData(blocks.jobs[position]))
    conclude(position)
  }

  /// An error on the target's side ends the job, not the guest's write.
  func jobFailed(_ position: Int) {
    guard blocks.jobs[position].isLive, !blocks.jobs[position].hasFailed else { return }
    blocks.jobs[position].hasFailed = true
    let id = blocks.jobs[position].id
    emit("BLOCK_JOB_ERROR", ["device": .string(id), "operation": "write", "action": "report"])
    blocks.jobs[position].error = "Input/output error"
    if blocks.jobs[position].endsByForce { return }
    setJobStatus(position, .aborting)
    var data = jobData(blocks.jobs[position])
    data["error"] = "Input/output error"
    emit("BLOCK_JOB_COMPLETED", data)
    conclude(position)
  }

  func cancelJob(_ position: Int, isForced: Bool) {
    if isForced || blocks.jobs[position].status != .ready {
      blocks.jobs[position].endsByForce = true
      endForcedJobs()
    } else {
      blocks.jobs[position].endsSoftly = true
      wake(.job(blocks.jobs[position].number), after: .microseconds(60))
    }
  }

  /// A forced job ends once nothing of it is in flight: a stalled connection holds it up.
  func endForcedJobs() {
    for position in blocks.jobs.indices
    where blocks.jobs[position].endsByForce && !blocks.jobs[position].status.isOver {
      let number = blocks.jobs[position].number
      guard !blocks.requests.contains(where: { $0.purpose.belongs(to: number) }) else { continue }
      setJobStatus(position, .aborting)
      if blocks.jobs[position].error == nil { blocks.jobs[position].error = "Operation canceled" }
      emit("BLOCK_JOB_CANCELLED", jobData(blocks.jobs[position]))
      conclude(position)
    }
    removeDismissedJobs()
  }

  private func conclude(_ position: Int) {
    setJobStatus(position, .concluded)
    blocks.jobs[position].isCopying = false
    if blocks.jobs[position].dismissesItself { setJobStatus(position, .null) }
    let target = blocks.jobs[position].target
    if let node = blocks.nodes.firstIndex(where: { $0.name == target && $0.belongsToJob }) {
      if let connection = blocks.nodes[node].connection {
        effects.append(.network(.close(connection: connection)))
      }
      blocks.nodes.remove(at: node)
    }
  }

  private func removeDismissedJobs() { blocks.jobs.removeAll { $0.status == .null } }

  func cancelAllJobs() {
    for position in blocks.jobs.indices where blocks.jobs[position].isLive {
      setJobStatus(position, .aborting)
      emit("BLOCK_JOB_CANCELLED", jobData(blocks.jobs[position]))
      setJobStatus(position, .concluded)
      setJobStatus(position, .null)
    }
    removeDismissedJobs()
  }

  func setJobStatus(_ position: Int, _ status: MirrorJob.Status) {
    blocks.jobs[position].status = status
    emitJobStatus(blocks.jobs[position].id, status)
  }

  private func emitJobStatus(_ id: String, _ status: MirrorJob.Status) {
    emit("JOB_STATUS_CHANGE", ["status": .string(status.rawValue), "id": .string(id)])
  }

  func jobData(_ job: MirrorJob) -> JSONObject {
    [
      "device": .string(job.id), "len": .integer(jobLength(job)),
      "offset": .integer(jobOffset(job)), "speed": .integer(job.speed), "type": "mirror",
    ]
  }

  func jobOffset(_ job: MirrorJob) -> Int64 {
    jobLength(job) - Int64(job.dirtyCount + (job.isCopying ? 1 : 0)) * Int64(BlockLayer.sectorBytes)
  }

  func jobLength(_ job: MirrorJob) -> Int64 {
    Int64(job.dirty.count) * Int64(BlockLayer.sectorBytes)
  }

  // MARK: - The drain at STOP

  /// QEMU waits for what is in flight and flushes every node; its main loop is blocked meanwhile.
  func drainDisks() {
    for position in blocks.jobs.indices where blocks.jobs[position].status == .ready {
      emitJobStatus(blocks.jobs[position].id, .standby)
      emitJobStatus(blocks.jobs[position].id, .ready)
    }
    blocks.isDraining = true
    blocks.drainFailed = false
    for node in blocks.nodes where node.connection != nil {
      if !send(.flush, to: node.name, for: .drain) { blocks.drainFailed = true }
    }
    drainOn()
  }

  private func drainOn() {
    if isWaitingForBlocks, blocks.requests.isEmpty { blocksSettled() }
    guard blocks.isDraining, blocks.requests.isEmpty else { return }
    blocks.isDraining = false
    for job in blocks.jobs { wake(.job(job.number), after: .microseconds(20)) }
    if blocks.drainFailed {
      drainFailed()
    } else {
      disksDrained(after: configuration.timing.drain)
    }
  }
}

extension BlockLayer.Purpose {
  func belongs(to job: Int) -> Bool {
    switch self {
    case .copy(let number, _), .guestWrite(let number, _), .lastFlush(let number): number == job
    case .drain: false
    }
  }
}
