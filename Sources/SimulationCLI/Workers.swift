import Glibc

/// One share of the work, counted from 0.
struct Share {
  var index: Int
  var count: Int
}

/// Does work in several processes, and adds up what they counted.
struct Workers {
  private struct Worker {
    var process: pid_t
    var output: Int32
    var text: [UInt8] = []
    var isDone = false
  }

  private var workers: [Worker] = []

  /// - Parameter work: what a share counts; called in a process of its own where there are several.
  /// - Returns: nil when a process could not be made, or died.
  static func run(_ jobs: Int, stopsWhenBroken: Bool, _ work: (Share) -> Tally) -> Tally? {
    guard jobs > 1 else { return work(Share(index: 0, count: 1)) }
    fflush(nil)
    var workers = Workers()
    for index in 0..<jobs {
      guard workers.begin({ work(Share(index: index, count: jobs)) }) else {
        workers.stop()
        return nil
      }
    }
    return workers.collect(stopsWhenBroken: stopsWhenBroken)
  }

  private mutating func begin(_ work: () -> Tally) -> Bool {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { return false }
    let process = fork()
    if process == 0 {
      close(ends[0])
      let text = Array(work().text.utf8)
      fflush(nil)
      var sent = 0
      while sent < text.count {
        let count = text[sent...].withUnsafeBytes { write(ends[1], $0.baseAddress, $0.count) }
        if count <= 0 { _exit(1) }
        sent += count
      }
      _exit(0)
    }
    close(ends[1])
    guard process > 0 else {
      close(ends[0])
      return false
    }
    workers.append(Worker(process: process, output: ends[0]))
    return true
  }

  /// Reads what each of them counted, in the order in which they finish.
  private mutating func collect(stopsWhenBroken: Bool) -> Tally? {
    var tally = Tally()
    while workers.contains(where: { !$0.isDone }) {
      var entries = workers.map {
        pollfd(fd: $0.isDone ? -1 : $0.output, events: Int16(POLLIN), revents: 0)
      }
      guard poll(&entries, nfds_t(entries.count), -1) >= 0 || errno == EINTR else { break }
      for index in workers.indices where entries[index].revents != 0 {
        guard let counted = read(index) else { continue }
        tally.add(counted)
        if stopsWhenBroken, counted[Tally.broken] > 0 {
          stop()
          return tally
        }
      }
    }
    return reap() ? tally : nil
  }

  /// What one of them counted, once it has said it all.
  private mutating func read(_ index: Int) -> Tally? {
    var buffer = [UInt8](repeating: 0, count: 65536)
    let count = Glibc.read(workers[index].output, &buffer, buffer.count)
    if count > 0 {
      workers[index].text += buffer[..<count]
      return nil
    }
    workers[index].isDone = true
    return Tally(text: String(decoding: workers[index].text, as: UTF8.self))
  }

  private func stop() {
    for worker in workers { kill(worker.process, SIGTERM) }
    _ = reap()
  }

  /// Answers whether all of them ended well.
  private func reap() -> Bool {
    var isWell = true
    for worker in workers {
      var status: Int32 = 0
      if waitpid(worker.process, &status, 0) != worker.process || status != 0 { isWell = false }
      close(worker.output)
    }
    return isWell
  }
}
