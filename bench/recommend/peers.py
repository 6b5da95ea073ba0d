"""What `implicit` makes of a fixed split: python peers.py MODEL TRAIN TEST, or python peers.py generate SIGNALS FILE [SEED]."""

import json
import os
import subprocess
import sys
import time

for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # as implicit asks for: it has threads of its own

import numpy as np
import scipy.sparse as sparse


def lines(path):
    data = subprocess.run(["zstdcat", path], capture_output=True, check=True).stdout if path.endswith(".zst") else open(path, "rb").read()
    for line in data.splitlines():
        numbers = [int(number) for number in line.split()]
        if len(numbers) > 1:
            yield numbers[0], numbers[1:]


def matrix(path, shape=None):
    users, items = [], []
    for user, taken in lines(path):
        users += [user] * len(taken)
        items += taken
    shape = shape or (max(users) + 1, max(items) + 1)
    return sparse.csr_matrix((np.ones(len(users), dtype=np.float32), (users, items)), shape=shape)


def model(name):
    import implicit

    threads = os.cpu_count()
    if name == "als":
        return implicit.als.AlternatingLeastSquares(factors=64, iterations=15, num_threads=threads, random_state=1)
    if name == "bpr":
        return implicit.bpr.BayesianPersonalizedRanking(factors=64, num_threads=threads, random_state=1)
    return implicit.nearest_neighbours.CosineRecommender(K=100, num_threads=threads)


def measure(name, train_path, test_path):
    train = matrix(train_path)
    test = dict(lines(test_path))
    fitted = model(name)
    began = time.monotonic()
    fitted.fit(train, show_progress=False)
    seconds = time.monotonic() - began
    users = np.array(sorted(test))
    gains = 1 / np.log2(np.arange(2, 22))
    recall, ndcg = [], []
    for start in range(0, len(users), 1000):
        some = users[start : start + 1000]
        found, _ = fitted.recommend(some, train[some], N=20, filter_already_liked_items=True)
        for user, ranking in zip(some, found):
            hits = np.isin(ranking, test[user])
            recall.append(hits.sum() / len(test[user]))
            ndcg.append((hits * gains).sum() / gains[: min(20, len(test[user]))].sum())
    print(json.dumps({"seconds": seconds, "recall@20": float(np.mean(recall)), "ndcg@20": float(np.mean(ndcg)), "cases": len(users)}))


def generate(signals, path, seed):
    """Histories in the shape of gowalla: 27 signals a person, 20 of an item; few do much, places in common, popular things."""
    random = np.random.default_rng(seed)
    people, items = max(signals // 27, 1), max(signals // 20, 1)
    person = np.minimum((random.random(signals) ** 2 * people).astype(np.int64), people - 1)
    places = -(-items // 200)
    own = (person * 1_000_003 + random.integers(0, 3, signals) * 7_919) * 2_654_435_761 % places
    taken = np.minimum(own * 200 + (random.random(signals) ** 2 * 200).astype(np.int64), items - 1)
    anything = random.random(signals) < 0.1
    taken[anything] = np.minimum((random.random(anything.sum()) ** 2 * items).astype(np.int64), items - 1)
    order = np.argsort(person, kind="stable")
    person, taken = person[order], taken[order]
    starts = np.flatnonzero(np.r_[True, person[1:] != person[:-1]])
    ends = np.r_[starts[1:], len(person)]
    with open(path, "w") as train, open(path + ".test", "w") as test:
        for number, (start, end) in enumerate(zip(starts, ends)):
            history = list(dict.fromkeys(taken[start:end].tolist()))
            if len(history) > 3 and number % max(people // 2000, 1) == 0:
                test.write(f"{person[start]} {history.pop()}\n")
            train.write(f"{person[start]} {' '.join(map(str, history))}\n")


if sys.argv[1] == "generate":
    generate(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 1)
else:
    measure(*sys.argv[1:4])
